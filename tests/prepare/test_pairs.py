"""Pairs of kernel layers: which they are, what lies between, why others are none, and factors that cancel."""

import numpy as np

from keras_dbq.compat import keras
from keras_dbq.network import kernels
from keras_dbq.prepare import pairs
from tests import nets

L = keras.layers


def network():
    inputs = keras.Input(nets.SHAPE)
    x = L.Conv2D(4, 3, activation="relu", name="a")(inputs)
    x = L.DepthwiseConv2D(3, depth_multiplier=2, name="b")(L.Dropout(0.1)(L.ZeroPadding2D()(x)))
    x = L.Conv2D(5, 1, activation="tanh", name="c")(L.ReLU(6.0)(x))
    x = L.Conv2D(4, 1, groups=1, name="d")(x)
    x = L.Add()([L.Conv2D(4, 3, groups=2, padding="same", name="e")(x), x])
    return nets.randomize(keras.Model(inputs, L.Dense(3, name="f")(L.GlobalAveragePooling2D()(x))))


def test_which_they_are_and_why_others_are_none():
    found = pairs.found(network(), kernels.is_kernel_layer)
    assert found["a"].following.name == "b" and found["a"].rule == "relu"
    assert [type(layer) for layer in found["a"].between] == [L.ZeroPadding2D, L.Dropout]
    assert found["b"].following.name == "c" and found["b"].rule == "relu6"
    assert found["c"] == "its activation tanh may not be crossed"
    assert found["d"] == "several layers read it"
    assert "(Add) may not be crossed" in found["e"]
    assert found["f"] == "an output of the model"
    assert set(pairs.found(network(), kernels.is_depthwise)) == {"b"}


def test_factors_cancel():
    model = network()
    x = nets.pictures(8)
    before = model.predict(x, verbose=0)
    pair = pairs.found(model, kernels.is_kernel_layer)["a"]
    pairs.apply(pair, np.array([0.5, 3.0, 1.0, 7.0]))
    np.testing.assert_allclose(model.predict(x, verbose=0), before, rtol=1e-4, atol=1e-5)
