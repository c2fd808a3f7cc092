"""Errors by layer: against numbers by hand, and where they must be zero."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.reporting import errors
from tests import nets

L = keras.layers


def test_signal_to_noise_and_cosine_by_hand():
    found = errors.error("a", np.array([3.0, 4.0]), np.array([3.0, 4.5]))
    assert found.snr == pytest.approx(10 * np.log10(25 / 0.25))
    assert found.cosine == pytest.approx((9 + 18) / (5 * np.hypot(3, 4.5)))
    assert errors.error("a", np.ones(3), np.ones(3)) == errors.Error("a", errors.LARGEST_DB, pytest.approx(1.0))
    assert errors.error("a", np.ones(3), np.zeros(3)) == errors.Error("a", pytest.approx(0.0), 0.0)
    assert errors.error("a", np.zeros(3), np.zeros(3)).cosine == 1.0


def test_weights_of_every_layer():
    q_model = nets.quantized(nets.resnet)
    found = {e.name: e for e in errors.weight_errors(q_model)}
    assert {"stem", "a0", "head"} <= set(found)
    assert found["stem"].snr > 35 > found["a0"].snr > 5  # 8 bits, two ternary branches


def test_activations_that_both_networks_have():
    keras.utils.set_random_seed(0)
    model = nets.mobilenet_v1()
    fine = keras_dbq.quantize_model(model, keras_dbq.FATScheme(), nets.pictures())
    coarse = keras_dbq.quantize_model(model, keras_dbq.FATScheme(bits=3), nets.pictures())
    x = nets.pictures(8, seed=4)
    a, b = (errors.activation_errors(q, model, x) for q in (fine, coarse))
    assert len(a) == len(b) > 3 and np.mean([e.snr for e in a]) > np.mean([e.snr for e in b]) + 6


def small():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 4))
    x = L.ReLU()(L.Conv2D(6, 3, name="first")(inputs))
    x = L.ReLU()(L.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, name="depthwise")(x))
    x = L.Conv2D(8, 1, activation="relu", name="middle")(x)
    return keras.Model(inputs, L.Dense(3, name="last")(L.Flatten()(x)))


def test_costs_by_layer():
    model, x = small(), nets.pictures(8, shape=(8, 8, 4))
    scheme = keras_dbq.DBQScheme(branches=1, overrides={"depthwise": {"bits": 3}})
    costs = errors.weight_costs(keras_dbq.quantize_model(model, scheme, x), model, x)
    assert list(costs) == ["first", "depthwise", "middle", "last"]
    assert costs["first"] < 0.001 > costs["last"] and costs["middle"] > 0.01 < costs["depthwise"]


def test_what_a_factor_and_an_offset_mend_costs_nothing():
    model, x = small(), nets.pictures(8, shape=(8, 8, 4))
    q_model = keras_dbq.quantize_model(model, keras_dbq.FATScheme(), x)
    expected = errors.weight_costs(q_model, model, x)
    kernel = model.get_layer("middle").get_weights()[0]
    model.get_layer("middle").set_weights([kernel * 2, model.get_layer("middle").get_weights()[1]])
    assert errors.weight_costs(q_model, model, x)["middle"] < 1e-3 and expected["middle"] < 1e-3


def test_a_network_of_constant_answers_has_no_costs():
    model, x = small(), nets.pictures(8, shape=(8, 8, 4))
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(branches=1), x)
    model.get_layer("last").set_weights([np.zeros_like(w) for w in model.get_layer("last").get_weights()])
    assert errors.weight_costs(q_model, model, x) == {}
