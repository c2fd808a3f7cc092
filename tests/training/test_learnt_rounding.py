"""Learnt rounding: each weight ends on one of its two levels, starts near its own, and what has no choice stays."""

import numpy as np
import pytest

from keras_dbq.compat import keras, tf
from keras_dbq.quantizers import LinearWeightQuantizer, TernaryBranchQuantizer
from keras_dbq.training.learnt_rounding import LearntRounding
from keras_dbq.wrapping.lookup import QuantizedWeight

QUANTIZERS = {
    "one branch": lambda: TernaryBranchQuantizer(1, "straight_through", "midpoint"),
    "two branches": lambda: TernaryBranchQuantizer(2, "hard", "trained"),
    "three branches, one scale": lambda: TernaryBranchQuantizer(3, "smooth", "trained", per_channel=False),
    "depthwise": lambda: TernaryBranchQuantizer(2, depthwise=True),
    "4 bit": lambda: LinearWeightQuantizer(4),
    "3 bit, trained threshold": lambda: LinearWeightQuantizer(3, threshold="trained"),
    "2 bit, one scale": lambda: LinearWeightQuantizer(2, per_channel=False),
}


@pytest.fixture(params=QUANTIZERS, ids=[name.replace(" ", "_") for name in QUANTIZERS])
def weight(request):
    quantizer = QUANTIZERS[request.param]()
    kernel = tf.Variable(np.random.default_rng(0).normal(size=(3, 3, 6, 4)).astype(np.float32))
    variables = quantizer.build(kernel.shape, "kernel", keras.layers.Layer())
    quantizer.initialize(kernel.numpy(), variables, quantizer.fits[-1])
    return QuantizedWeight(kernel, quantizer, variables)


def levels(weight):
    columns = weight.quantizer.columns(weight.quantizer(weight.variable, False, weight.variables).numpy())
    return np.asarray(columns, np.float64)


def test_neighbours_are_the_levels_beside_a_weight(weight):
    kernel = np.asarray(weight.quantizer.columns(weight.variable.numpy()), np.float64)
    low, high = weight.quantizer.neighbours(weight.variable.numpy(), weight.variables)
    inside, own = high > low, levels(weight)
    assert inside.mean() > 0.3
    assert np.all((low <= kernel + 1e-6) & (kernel <= high + 1e-6), where=inside)
    nearer = np.where(kernel - low < high - kernel, low, high)
    np.testing.assert_allclose(own[inside], nearer[inside], atol=1e-5)
    np.testing.assert_allclose(own[~inside], low[~inside], atol=1e-5)


def test_without_a_step_the_levels_stay_as_they_are(weight):
    before, latent = levels(weight), weight.variable.numpy()
    rounding = LearntRounding(weight)
    rounding.soften()
    soft = np.asarray(weight.quantizer.columns(weight.variable.numpy()), np.float64)
    low, high = weight.quantizer.neighbours(latent, weight.variables)
    assert np.all(np.abs(soft - before) <= 0.26 * (high - low) + 1e-5)
    assert np.abs(soft - before).max() > 0.03
    rounding.harden()
    np.testing.assert_allclose(levels(weight), before, atol=1e-6)
    moved = np.asarray(weight.quantizer.columns(np.abs(weight.variable.numpy() - latent)), np.float64)
    assert np.all(moved <= 0.03 * (high - low) + 1e-6)  # a little inside of its threshold, no further


@pytest.mark.parametrize("direction", [-1, 1])
def test_driven_up_or_down_every_weight_takes_the_level_there(weight, direction):
    low, high = weight.quantizer.neighbours(weight.variable.numpy(), weight.variables)
    rounding = LearntRounding(weight)
    rounding.logits.assign_add(tf.fill(rounding.logits.shape, 50.0 * direction))
    rounding.harden()
    np.testing.assert_allclose(levels(weight), high if direction > 0 else low, atol=1e-5)
    again = weight.variable.numpy()
    weight.quantizer.settle(weight.variable, weight.variables, levels(weight))
    np.testing.assert_array_equal(weight.variable.numpy(), again)


def test_the_penalty_decides_and_comes_late(weight):
    rounding = LearntRounding(weight)
    nothing = tf.zeros_like(rounding.logits)
    assert not rounding.gradient(nothing, tf.constant(0.1)).numpy().any()
    start = rounding.logits.numpy()
    for done in np.linspace(0.2, 1, 40):
        rounding.logits.assign_sub(tf.sign(rounding.gradient(nothing, tf.constant(done, tf.float32))) * 0.2)
    assert np.abs(rounding.logits.numpy()).min() > 1  # none is left in the middle
    assert (np.sign(rounding.logits.numpy()) == np.sign(start)).all()


def test_the_gradient_is_that_of_the_soft_weights(weight):
    rounding = LearntRounding(weight)
    upstream = np.random.default_rng(1).normal(size=weight.variable.shape).astype(np.float32)

    def loss():
        rounding.soften()
        return float((weight.variable.numpy().astype(np.float64) * upstream).sum())

    got = rounding.gradient(tf.constant(upstream), tf.constant(0.0)).numpy()
    step = 1e-2 * np.sign(got)
    start = loss()
    rounding.logits.assign_add(step)
    assert loss() - start == pytest.approx((got * step).sum(), rel=0.05)


def test_eight_bits_do_not_round():
    assert not LinearWeightQuantizer(8).few_levels
    assert LinearWeightQuantizer(4).few_levels and LinearWeightQuantizer(4).levels.top == 7
