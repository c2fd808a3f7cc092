"""The soft curve of weights of few levels: the staircase where it is sharp, with the gradient that belongs to it."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras, tf

QUANTIZERS = [
    keras_dbq.quantizers.TernaryBranchQuantizer(1),
    keras_dbq.quantizers.TernaryBranchQuantizer(2, thresholds="midpoint"),
    keras_dbq.quantizers.LinearWeightQuantizer(4),
    keras_dbq.quantizers.LinearWeightQuantizer(3, threshold="trained"),
]
IDS = ["one branch", "two branches", "4 bit", "3 bit, trained"]


def fitted(quantizer):
    kernel = tf.Variable(np.random.default_rng(0).normal(size=(3, 3, 5, 4)).astype(np.float32))
    variables = quantizer.build(kernel.shape, "kernel", keras.layers.Layer())
    quantizer.initialize(kernel.numpy(), variables)
    return quantizer.columns(kernel), variables


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=IDS)
def test_sharp_it_is_the_staircase(quantizer):
    columns, variables = fitted(quantizer)
    hard = quantizer.quantize(columns, False, variables).numpy()
    distance = [np.abs(quantizer.soft(columns, variables, sharpness).numpy() - hard).mean() for sharpness in (8, 1e5)]
    assert distance[1] < 1e-3 * np.abs(hard).mean() < distance[0]


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=IDS)
def test_its_gradient_is_its_slope(quantizer):
    columns, variables = fitted(quantizer)
    upstream = tf.constant(np.random.default_rng(1).normal(size=columns.shape).astype(np.float32))
    direction = np.random.default_rng(2).normal(size=columns.shape).astype(np.float32)
    # The largest weight of a channel makes a linear grid, through which no gradient goes.
    direction[np.abs(columns.numpy()).argmax(0), np.arange(columns.shape[1])] = 0

    def loss(w):
        return tf.reduce_sum(upstream * quantizer.soft(w, variables, tf.constant(8.0)))

    with tf.GradientTape() as tape:
        tape.watch(columns)
        total = loss(columns)
    slope = float(tf.reduce_sum(tape.gradient(total, columns) * direction))
    rise = float(loss(columns + 1e-3 * direction) - loss(columns - 1e-3 * direction))
    assert slope == pytest.approx(rise / 2e-3, rel=0.01)
