"""Graphs: nested models spliced in, names kept or made unique."""

import numpy as np

from keras_dbq.compat import keras
from keras_dbq.network import graph
from keras_dbq.wrapping import wrappers
from tests import nets

L = keras.layers


def test_nested_model_is_flattened_and_keeps_names():
    q_model = nets.quantize(nets.nested())
    names = {wrappers.inner(layer).name for layer in q_model.layers}
    assert {"conv", "conv_b", "hidden", "logits"} <= names
    assert not any(isinstance(layer, keras.Model) for layer in q_model.layers)


def test_names_that_collide_in_nested_models():
    def tower(name):
        i = keras.Input((8, 8, 4))
        return keras.Model(i, L.Conv2D(4, 1, name="conv")(i), name=name)

    inputs = keras.Input((8, 8, 4))
    shared = tower("one")
    model = keras.Model(inputs, [L.Flatten()(tower("two")(shared(shared(inputs))))])
    flat = graph.flat_copy(model)
    assert sorted(layer.name for layer in flat.layers if "conv" in layer.name) == ["conv", "two_conv"]
    x = nets.pictures(2, shape=(8, 8, 4))
    np.testing.assert_allclose(flat(x).numpy(), model(x).numpy(), rtol=1e-6)
