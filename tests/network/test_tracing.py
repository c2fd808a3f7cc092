"""What a call computes, by its operators."""

import numpy as np
import pytest

from keras_dbq.compat import keras, tf
from keras_dbq.network import tracing
from keras_dbq.network.graph import Graph

L = keras.layers
BY_NUMBER = {
    "gelu": lambda x: tf.nn.gelu(x),
    "clip": lambda x: tf.clip_by_value(x, -1.0, 1.0) * 2,
    "where": lambda x: tf.where(x > 0, x, 0.3 * x),
}
NOT = {
    "neighbours": lambda x: tf.cumsum(x),
    "two tensors": lambda x: L.Add()([x, L.ReLU()(x)]),
    "a constant per channel": lambda x: x * [1.0, 2.0],
    "a mean": lambda x: tf.reduce_mean(x, -1),
}


def node(call, shape=(3, 5, 2)):
    inputs = keras.Input(shape)
    return Graph(keras.Model(inputs, call(inputs))).nodes[-1]


@pytest.mark.parametrize("call", BY_NUMBER.values(), ids=list(BY_NUMBER))
def test_a_function_of_one_number_is_seen_and_evaluated(call):
    found = node(lambda x: L.Lambda(call)(x))
    assert tracing.is_by_number(tracing.operators(found))
    values = np.linspace(-4, 4, 256, dtype=np.float32)
    np.testing.assert_allclose(tracing.function_by_number(found)(values), call(tf.constant(values)), rtol=1e-6)


@pytest.mark.parametrize("call", NOT.values(), ids=list(NOT))
def test_others_are_not_functions_of_one_number(call):
    assert not tracing.is_by_number(tracing.operators(node(call)))


def test_a_shape_larger_than_the_values_and_a_layer_in_inference_mode():
    found = node(lambda x: L.GaussianNoise(5.0)(x), (20, 20, 2))
    values = np.arange(256, dtype=np.float32)
    np.testing.assert_array_equal(tracing.function_by_number(found)(values), values)
