"""What of vectors has no integer form, and what is said then. (What has one: test_roles, the zoo.)"""

import numpy as np
import pytest

from keras_dbq.compat import keras, tf
from keras_dbq.network import roles, vectors
from keras_dbq.network.graph import Graph

L = keras.layers
MATRIX = np.ones((1, 2, 3), np.float32)


def meaning(call, shape=(4, 4, 2)):
    inputs = keras.Input(shape)
    return roles.meaning(Graph(keras.Model(inputs, call(inputs))).nodes[-1])


@pytest.mark.parametrize(
    "call",
    [
        lambda x: L.UnitNormalization(axis=1)(x),
        lambda x: L.UnitNormalization(axis=[1, 2, 3])(x),
        lambda x: tf.math.l2_normalize(x, -1, epsilon=1e-3),
        lambda x: L.Lambda(
            lambda v: tf.square(v) * tf.math.rsqrt(tf.maximum(tf.reduce_sum(tf.square(v), -1, keepdims=True), 1e-12))
        )(x),
    ],
)
def test_no_normalization(call):
    found = meaning(call)
    assert found.role == roles.UNSUPPORTED
    assert found.why.startswith("an L2 normalisation over other axes than the last, or with an epsilon over 1e-10")


@pytest.mark.parametrize(
    "call, shape, why",
    [
        (lambda x: L.Lambda(lambda v: tf.matmul(v, MATRIX[None]))(x), (4, 4, 2), "one of its matrices is a constant"),
        (lambda x: L.Lambda(lambda v: tf.matmul(v, tf.constant(MATRIX)))(x), (4, 2), "one of its matrices is a const"),
        (lambda x: tf.matmul(x, x, transpose_b=True), (1, 33026), "a dot product of 33026 numbers does not fit int32"),
        (lambda x: tf.matmul(x, x), (1, 1, 1, 2, 2), "a product of matrices has more than 5 axes"),
    ],
)
def test_no_product(call, shape, why):
    found = meaning(call, shape)
    assert found.role == roles.UNSUPPORTED and found.why.startswith(why)
    assert found.advice == "use a Dense or convolution layer"


def test_the_longest_sum():
    assert vectors.LARGEST_DEPTH * 255**2 < 2**31 <= (vectors.LARGEST_DEPTH + 1) * 255**2
