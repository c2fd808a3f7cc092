"""The mistakes that users make most, as Python says them: each one line that says what, expected, got, what to do."""

import warnings

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.runtime import library
from tests.command import networks


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(float network, quantized network, path of the packed file, pictures of 0..1)."""
    x = networks.photos(64).astype(np.float32) / 255
    model = networks.trained("0..1")
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(), x)
    path = tmp_path_factory.mktemp("mistakes") / "m.tflite"
    keras_dbq.export_tflite(q_model, path)
    return model, q_model, path, x


def refused(kind, call):
    """The message of an error, which is one line."""
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def scheme():
    return keras_dbq.DBQScheme()


def test_wrong_range_of_pictures(made):
    model, q_model, path, x = made
    with pytest.warns(UserWarning, match="are they scaled as the pictures that the network was trained on"):
        keras_dbq.quantize_model(model, scheme(), 255 * x)
    with pytest.warns(UserWarning, match="verify: .*outside of its calibrated range and are clipped"):
        keras_dbq.verify(q_model, path, 255 * x[:4], raise_on_failure=False)
    interpreter = keras_dbq.Interpreter(path)
    with pytest.warns(UserWarning, match="^predict: .* % of input 'photo' lie outside of its calibrated range"):
        interpreter.predict(255 * x[:4])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        interpreter.predict(255 * x[:4])  # once is enough
        keras_dbq.Interpreter(path).predict(x)


def test_no_calibration(made):
    with pytest.warns(UserWarning, match="no calibration data: .*pass calibration_data"):
        keras_dbq.quantize_model(made[0], scheme())


def test_float_model_exported(made, tmp_path):
    message = refused(ValueError, lambda: keras_dbq.export_tflite(made[0], tmp_path / "f.tflite"))
    assert message.endswith("has no quantized layer; call keras_dbq.quantize_model first")
    assert not (tmp_path / "f.tflite").exists()


def test_wrong_shape(made):
    model, q_model, path, x = made
    expected = "x for input 'photo': expected shape [N, 16, 16, 3], got "
    small = x[:4, :12, :12]
    predict = keras_dbq.Interpreter(path).predict
    assert refused(ValueError, lambda: predict(small)) == expected + "[4, 12, 12, 3]; resize the pictures"
    assert refused(ValueError, lambda: predict(x[0])) == expected + "[16, 16, 3]; give a batch, x[None]"
    assert refused(ValueError, lambda: keras_dbq.verify(q_model, path, small)).startswith(expected)
    message = refused(ValueError, lambda: keras_dbq.quantize_model(model, scheme(), small))
    assert message.startswith("calibration data: expected batches of shape [N, 16, 16, 3]")


def test_integers_given_to_the_interpreter(made):
    predict = keras_dbq.Interpreter(made[2]).predict
    message = refused(TypeError, lambda: predict(networks.photos(4)))
    assert message.endswith("expected float or int8, got uint8; give float32, scaled as in training")


def test_quantized_twice(made):
    message = refused(ValueError, lambda: keras_dbq.quantize_model(made[1], scheme(), made[3]))
    assert message.endswith("is already quantized; give the float model")


def test_keras_3_subclassed_model(tmp_path):
    keras_3 = pytest.importorskip("keras")

    class Own(keras_3.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras_3.layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    model = Own()
    model(np.zeros((1, 4), np.float32))
    message = refused(ValueError, lambda: keras_dbq.quantize_model(model, scheme()))
    assert "its call is Python code that cannot be read; rebuild it with keras.Model(inputs, outputs)" in message
    model.save(tmp_path / "own.keras")
    message = refused(ValueError, lambda: keras_dbq.quantize_model(tmp_path / "own.keras", scheme()))
    assert "'Own'" in message and "Full object config" not in message
    assert message.endswith("; rebuild a subclassed model with keras.Model(inputs, outputs)")


def test_missing_delegate(made, tmp_path, monkeypatch):
    assert "keras_dbq.Interpreter(path)" in refused(ValueError, lambda: keras_dbq.Interpreter(made[2], delegate=False))
    monkeypatch.setattr(library, "_loaded", {})
    monkeypatch.setattr(library, "PATH", str(tmp_path / "none.so"))
    message = refused(FileNotFoundError, lambda: keras_dbq.Interpreter(made[2]))
    assert message.endswith("got no file; build it with `pip install .`")
    (tmp_path / "none.so").write_text("no library")
    message = refused(ValueError, lambda: keras_dbq.Interpreter(made[2]))
    assert message.startswith(f"delegate: expected {tmp_path / 'none.so'} to load, got: ")  # the model is not to blame


def test_damaged_file(made, tmp_path):
    content = made[2].read_bytes()
    message = refused(ValueError, lambda: keras_dbq.Interpreter(content[: len(content) // 2]))
    assert message.endswith("; the file is damaged, export it again")
    made[0].save(tmp_path / "a.keras")
    (tmp_path / "cut.keras").write_bytes((tmp_path / "a.keras").read_bytes()[:5000])
    message = refused(ValueError, lambda: keras_dbq.quantize_model(tmp_path / "cut.keras", scheme()))
    assert message.startswith(f"{tmp_path / 'cut.keras'}: expected a whole Keras model")
    assert message.endswith("; save or copy it again")


def test_training_after_load(made, tmp_path):
    _, q_model, path, x = made
    q_model.save(tmp_path / "q.keras")
    loaded = keras.models.load_model(tmp_path / "q.keras")
    assert "You must compile your model" in refused(RuntimeError, lambda: loaded.fit(x, np.zeros(len(x)), verbose=0))
    loaded.compile(keras.optimizers.SGD(0.1), "mse")
    loaded.fit(x, np.ones((len(x), 4)), epochs=1, verbose=0)
    message = refused(AssertionError, lambda: keras_dbq.verify(loaded, path, x[:4]))
    assert "after the export" in message  # and it says what to do: export it again
