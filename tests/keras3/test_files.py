"""Objects and paths, of Keras 3 and of tf_keras, where users give models."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.keras3 import as_tf_keras, files, load_model
from tests import nets
from tests.keras3.networks import L, answers, keras_3, lively

SHAPE = (16, 16, 3)


def small():
    x = inputs = keras_3.Input(SHAPE, name="image")
    for i in range(2):
        x = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, name=f"conv{i}")(x)))
    return lively(keras_3.Model(inputs, L.Dense(3, name="head")(L.GlobalAveragePooling2D()(x)), name="small"))


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_files_of_keras_3(ending, tmp_path):
    model, path = small(), tmp_path / f"m{ending}"
    model.save(path)
    for new in (keras_dbq.from_keras3(path), keras_dbq.from_keras3(str(path)), load_model(path), as_tf_keras(path)):
        assert isinstance(new, keras.Model)
        np.testing.assert_allclose(answers(new, nets.pictures(4))[0], answers(model, nets.pictures(4))[0], atol=1e-5)


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "folder"])
def test_files_of_tf_keras(name, tmp_path):
    model, path = nets.resnet(), tmp_path / name
    model.save(path)
    np.testing.assert_array_equal(load_model(path)(nets.pictures(4)), model(nets.pictures(4)))
    with pytest.raises(
        ValueError, match="expected a file that Keras 3 wrote, got one of Keras .*; load it with tf_keras"
    ):
        keras_dbq.from_keras3(path)


def test_objects_pass_through_or_are_converted():
    model = nets.resnet()
    assert as_tf_keras(model) is model and as_tf_keras(None) is None
    assert isinstance(as_tf_keras(small()), keras.Model)


def test_quantize_model_takes_objects_and_paths(tmp_path):
    model, scheme = small(), keras_dbq.DBQScheme()
    model.save(tmp_path / "m.keras")
    one, two = (keras_dbq.quantize_model(m, scheme, nets.pictures(16)) for m in (model, tmp_path / "m.keras"))
    np.testing.assert_array_equal(one(nets.pictures(4)), two(nets.pictures(4)))
    assert {"quant_conv0", "quant_conv1", "quant_head"} <= {layer.name for layer in one.layers}


@keras_3.saving.register_keras_serializable(package="tests_of_files")
class Known(L.Layer):
    def call(self, x):
        return x


def test_files_that_cannot_be_read_are_one_line(tmp_path):
    with pytest.raises(ValueError, match="expected a Keras model file, got nothing; check the path"):
        keras_dbq.from_keras3(tmp_path / "none.keras")
    inputs = keras_3.Input(SHAPE)
    path = tmp_path / "custom.keras"
    keras_3.Model(inputs, Known()(inputs)).save(path)
    keras_3.saving.get_custom_objects().pop("tests_of_files>Known")
    with pytest.raises(ValueError, match="custom.keras: Keras 3.* cannot load it") as caught:
        keras_dbq.quantize_model(path, keras_dbq.DBQScheme())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error, message",
    [
        (ModuleNotFoundError("No module named 'keras'", name="keras"), "which is not installed; pip install keras"),
        (
            ModuleNotFoundError("No module named 'jax'", name="jax"),
            r"which cannot start \(No module named 'jax'\); set KERAS_BACKEND=tensorflow",
        ),
        (ValueError("Unable to import backend : cntk\nmore"), r"cannot start \(Unable to import backend : cntk\)"),
    ],
)
def test_a_backend_that_is_missing_is_one_line(error, message, tmp_path, monkeypatch):
    path = tmp_path / "m.keras"
    small().save(path)

    def refuse(name):
        raise error

    monkeypatch.setattr(files.importlib, "import_module", refuse)
    with pytest.raises(ValueError, match=message) as caught:
        keras_dbq.quantize_model(path, keras_dbq.DBQScheme())
    assert "\n" not in str(caught.value)
