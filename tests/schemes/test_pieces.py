"""The rewrites into pieces: what comes of which layer, and that the float function stays."""

import numpy as np
import pytest

from keras_dbq.compat import keras, tf
from keras_dbq.network import graph
from keras_dbq.schemes.rewrite import rewrite
from tests import zoo
from tests.property import check

L = keras.layers


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_the_float_function_stays(name):
    model = graph.flat_copy(zoo.NETWORKS[name]())
    new = rewrite(model, {layer.name for layer in model.layers}).model
    x = check.pictures(model, 3)
    x = x if len(x) > 1 else x[0]
    wanted, got = check.as_list(model(x, training=False)), check.as_list(new(x, training=False))
    for w, g in zip(wanted, got, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-5 * np.abs(w).max() + 1e-7)


def rewritten(call):
    """{name: type} of the layers that come of a layer called "layer", and their origins."""
    inputs = keras.Input((6, 6, 4))
    model = keras.Model(inputs, call(inputs))
    found = rewrite(model, {layer.name for layer in model.layers})
    types = {layer.name: type(layer).__name__ for layer in found.model.layers}
    return {name: types[name] for name, origin in found.origin.items() if origin.layer == "layer"}, found.origin


PIECES = {
    "Average": (
        lambda x: L.Average(name="layer")([x, x, L.ReLU()(x)]),
        {"layer_1": "Add", "layer_2": "Add", "layer": "DepthwiseConv2D"},
    ),
    "Add": (lambda x: L.Add(name="layer")([x, x, L.ReLU()(x)]), {"layer_1": "Add", "layer": "Add"}),
    "PReLU": (
        lambda x: L.PReLU(shared_axes=[1, 2], name="layer")(x),
        {"layer": "Add", "layer_negative": "DepthwiseConv2D", "layer_slope": "DepthwiseConv2D"},
    ),
    "activation": (lambda x: L.Conv2D(3, 1, activation="gelu", name="layer")(x), {"layer_gelu": "Activation"}),
    "separable": (
        lambda x: L.SeparableConv2D(3, 1, name="layer")(x),
        {"layer_depthwise": "DepthwiseConv2D", "layer": "Conv2D"},
    ),
    "mean": (lambda x: L.AveragePooling2D(6, name="layer")(x), {"layer": "GlobalAveragePooling2D"}),
}


@pytest.mark.parametrize("call, expected", PIECES.values(), ids=list(PIECES))
def test_what_comes_of_a_layer(call, expected):
    types, origin = rewritten(call)
    assert types == expected
    assert all(origin[name].note for name in types)


def test_a_function_is_written_as_its_operators_where_all_have_an_integer_form():
    types, origin = rewritten(lambda x: L.Lambda(lambda v: v[0] + 0.2 * v[1], name="layer")([x, L.ReLU()(x)]))
    assert sorted(types.values()) == ["TFOpLambda", "TFOpLambda"]
    assert {origin[name].type for name in types} == {"Lambda"}
    assert not rewritten(lambda x: L.Lambda(lambda v: tf.cumsum(v) + v[:1], name="layer")(x))[0]  # refused as a whole
