"""Batch norm folding of float networks: equal outputs, nothing left where it can go."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.wrapping import wrappers
from tests import nets

L = keras.layers


def norms(model):
    return [layer.name for layer in wrappers.all_layers(model) if isinstance(layer, L.BatchNormalization)]


@pytest.mark.parametrize("make", nets.ALL)
def test_outputs_stay_equal(make):
    model = make()
    x = nets.pictures(16)
    before = model.predict(x, verbose=0)
    folded = keras_dbq.fold_batch_norms(model)
    np.testing.assert_allclose(folded.predict(x, verbose=0), before, rtol=1e-4, atol=1e-5 * np.abs(before).max())
    # The model itself is as it was.
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)
    # What is left follows no kernel layer: pre-activation networks alone have such batch norms here.
    assert norms(folded) == (["b1", "b2"] if make is nets.preactivation else [])


def test_weights_equal_the_formula():
    inputs = keras.Input((6, 6, 3))
    x = L.BatchNormalization(epsilon=0.01, name="bn")(L.DepthwiseConv2D(3, depth_multiplier=2, name="dw")(inputs))
    model = nets.randomize(keras.Model(inputs, x))
    kernel, bias = model.get_layer("dw").get_weights()
    gamma, beta, mean, variance = model.get_layer("bn").get_weights()
    f = gamma / np.sqrt(variance + 0.01)
    new_kernel, new_bias = keras_dbq.fold_batch_norms(model).get_layer("dw").get_weights()
    np.testing.assert_allclose(new_kernel, kernel * f.reshape(3, 2), rtol=1e-6)
    np.testing.assert_allclose(new_bias, f * (bias - mean) + beta, rtol=1e-5, atol=1e-7)


def test_what_cannot_be_folded_stays():
    inputs = keras.Input((6, 6, 3))
    shared = L.Conv2D(3, 1, name="shared")
    a = L.BatchNormalization(name="bn_shared")(shared(shared(inputs)))
    b = L.BatchNormalization(name="bn_relu")(L.Conv2D(3, 1, activation="relu", name="relu")(a))
    c = L.Conv2D(3, 1, name="read_twice")(b)
    d = L.Add()([L.BatchNormalization(name="bn_twice")(c), c])
    e = L.BatchNormalization(axis=1, name="bn_rows")(L.Conv2D(3, 1, name="conv")(d))
    model = nets.randomize(keras.Model(inputs, e))
    folded = keras_dbq.fold_batch_norms(model)
    assert norms(folded) == ["bn_shared", "bn_relu", "bn_twice", "bn_rows"]
    x = nets.pictures(4, shape=(6, 6, 3))
    np.testing.assert_allclose(folded(x), model(x), rtol=1e-5, atol=1e-6)


def test_only_keras_models():
    with pytest.raises(TypeError, match="fold_batch_norms"):
        keras_dbq.fold_batch_norms("model.h5")
