"""Output shapes that are handed on: what Keras would have worked out, and left to Keras where that is not sure."""

import numpy as np
import pytest

from keras_dbq.compat import keras, tf
from keras_dbq.network import graph, known_shapes
from tests import nets
from tests.zoo import NETWORKS

L = keras.layers


def facts(model):
    """What may not depend on how the shapes were found."""
    return (
        [(layer.name, type(layer).__name__, layer.output_shape, layer.dtype) for layer in model.layers],
        [variable.name for variable in model.weights],
        [(tensor.shape, tensor.dtype) for tensor in tf.nest.flatten(model.outputs)],
    )


@pytest.mark.parametrize("name", sorted(NETWORKS)[::9])
def test_a_copy_is_the_one_that_keras_makes_by_running_each_layer(name, monkeypatch):
    model = NETWORKS[name]()
    quick = facts(graph.flat_copy(model))
    monkeypatch.setattr(known_shapes, "_same_layer", lambda new, old: False)
    assert facts(graph.flat_copy(model)) == quick


def run_layers(model, monkeypatch):
    """Names of the layers that Keras ran while the model was copied."""
    ran = []
    original = keras.layers.Layer._infer_output_signature

    def infer(self, *args):
        ran.append(self.name)
        return original(self, *args)

    monkeypatch.setattr(keras.layers.Layer, "_infer_output_signature", infer)
    copy = graph.flat_copy(model)
    x = nets.pictures(2, shape=model.input_shape[1:])
    np.testing.assert_array_equal(copy(x).numpy(), model(x).numpy())
    return ran


def test_plain_layers_are_not_run(monkeypatch):
    assert run_layers(nets.mobilenet_v1(), monkeypatch) == []


class LazyBlock(L.Layer):
    """Its convolution is built by the first call, as in most layers that people write."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = L.Conv2D(3, 3, kernel_initializer="ones")

    def call(self, x):
        return self.conv(x)


@pytest.mark.parametrize(
    "layer",
    [
        LazyBlock(name="special"),
        L.Lambda(lambda x: x * 2.0, name="special"),
        L.Conv2D(3, 3, activity_regularizer="l2", kernel_initializer="ones", name="special"),
        L.TimeDistributed(L.Dense(3, kernel_initializer="ones"), name="special"),
    ],
)
def test_layers_that_do_more_are_run(layer, monkeypatch):
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, layer(L.ReLU()(inputs)))
    assert "special" in run_layers(model, monkeypatch)


def test_other_shapes_and_dtypes_are_worked_out_again():
    inputs = keras.Input((8, 8, 4))
    conv = L.Conv2D(3, 3, name="conv")
    keras.Model(inputs, conv(inputs))
    node = conv.inbound_nodes[0]
    other = known_shapes.call(conv, node, (keras.Input((9, 5, 4)),), {})
    assert other.shape.as_list() == [None, 7, 3, 3]
    half = known_shapes.call(L.Conv2D(3, 3, dtype="mixed_bfloat16"), node, (keras.Input((8, 8, 4)),), {})
    assert half.dtype == tf.bfloat16
    wider = known_shapes.call(L.Conv2D(5, 3), node, (keras.Input((8, 8, 4)),), {})
    assert wider.shape.as_list() == [None, 6, 6, 5]
