"""The rules of others on whole networks: trained, saved, exported, packed, verified."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.quantizers import LinearWeightQuantizer, TernaryRuleQuantizer
from keras_dbq.quantizers.ternary_rules import METHODS
from keras_dbq.wrapping import wrappers
from tests import nets

L = keras.layers


def network():
    x = inputs = keras.Input((8, 8, 3))
    for i, layer in enumerate(
        (L.Conv2D(8, 3, use_bias=False), L.Conv2D(8, 3, padding="same", use_bias=False), L.Conv2D(12, 1))
    ):
        x = L.ReLU(name=f"relu{i}")(L.BatchNormalization(name=f"norm{i}")(layer(x)))
    return nets.randomize(keras.Model(inputs, L.Dense(4, name="last")(L.GlobalAveragePooling2D()(x))))


@pytest.mark.parametrize("method", METHODS)
def test_trained_saved_exported(tmp_path, method):
    x = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype(np.float32)
    q_model = keras_dbq.quantize_model(network(), keras_dbq.TernaryRuleScheme(method), calibration_data=x)
    q_model.compile(keras.optimizers.SGD(0.01, jit_compile=False), "mse")
    before = q_model.get_weights()
    q_model.fit(x, np.ones((64, 4), np.float32), verbose=0)
    assert any((a != b).any() for a, b in zip(before, q_model.get_weights(), strict=True))
    q_model.save(tmp_path / "q.keras")
    loaded = keras.models.load_model(tmp_path / "q.keras", compile=False)
    np.testing.assert_array_equal(loaded.predict_on_batch(x), q_model.predict_on_batch(x))
    for encoding in ("int8", "packed"):
        path = tmp_path / f"{encoding}.tflite"
        report = keras_dbq.export_tflite(loaded, path, encoding=encoding)
        assert keras_dbq.verify(loaded, path, x[:8]).passed
    packed = [layer.encoding for layer in report.layers if layer.encoding.startswith("packed")]
    assert packed == [f"packed-{2 if method == 'ttq' else 1}"] * 2


def test_placed_where_branches_are():
    scheme = keras_dbq.TernaryRuleScheme("ttq", per_channel=False, overrides={"conv2d_2": {"bits": 4}}, weight_bits=6)
    q_model = keras_dbq.quantize_model(network(), scheme)
    found = [w.quantizer for layer in wrappers.all_layers(q_model) for w in wrappers.quantized_weights(layer)]
    assert [type(q) for q in found] == [LinearWeightQuantizer, TernaryRuleQuantizer, LinearWeightQuantizer] + [
        LinearWeightQuantizer
    ]
    assert found[1].method == "ttq" and not found[1].per_channel and [q.bits for q in found] == [6, 0, 4, 6]
    assert scheme.get_config()["method"] == "ttq"


def test_the_solver_leaves_them():
    x = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype(np.float32)
    model = network()
    q_model = keras_dbq.quantize_model(model, keras_dbq.TernaryRuleScheme(), calibration_data=x)
    assert set(keras_dbq.solve_ternary(q_model, model, x).left.values()) == {"its weights follow a rule"}


def test_errors():
    with pytest.raises(ValueError, match="method: expected one of"):
        keras_dbq.TernaryRuleScheme("x")
    with pytest.raises(ValueError, match="branches"):
        keras_dbq.quantize_model(network(), keras_dbq.TernaryRuleScheme(overrides={"last": {"branches": 1}}))
