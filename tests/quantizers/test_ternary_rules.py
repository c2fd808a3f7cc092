"""TWN, its optimum and TTQ: values against plain numpy, gradients against the papers, exact integer weights."""

import numpy as np
import pytest

from keras_dbq.compat import keras, tf
from keras_dbq.quantizers import TernaryRuleQuantizer
from keras_dbq.quantizers.ternary_rules import METHODS

RNG = np.random.default_rng(3)
SHAPES = {"conv": ((3, 3, 4, 5), False), "depthwise": ((3, 3, 5, 2), True), "dense": ((7, 6), False)}


def built(method, kernel, per_channel=True, depthwise=False):
    quantizer = TernaryRuleQuantizer(method, per_channel, depthwise)
    variables = quantizer.build(kernel.shape, "w", keras.layers.Layer())
    quantizer.initialize(kernel, variables)
    return quantizer, variables


def random_kernel(shape, shift=0.3):
    return (RNG.normal(size=shape) + shift).astype(np.float32)


@pytest.mark.parametrize("per_channel", [True, False])
def test_twn(per_channel):
    w = random_kernel((20, 3))
    quantizer, variables = built("twn", w, per_channel)
    columns = w if per_channel else w.reshape(-1, 1)
    limit = 0.7 * np.abs(columns).mean(0)
    scale = np.array([np.abs(c)[np.abs(c) > t].mean() for c, t in zip(columns.T, limit, strict=True)])
    wanted = (np.sign(columns) * (np.abs(columns) > limit) * scale).reshape(w.shape)
    np.testing.assert_allclose(quantizer(tf.constant(w), False, variables), wanted, rtol=1e-6)


def test_the_optimum_is_that_of_all_thresholds():
    w = random_kernel((12, 4))
    quantizer, variables = built("optimal_twn", w)
    error = np.square(quantizer(tf.constant(w), False, variables).numpy() - w).sum(0)
    for column, got in zip(w.T.astype(np.float64), error, strict=True):
        size = np.sort(np.abs(column))[::-1]
        best = min((column**2).sum() - size[:r].sum() ** 2 / r for r in range(1, len(size) + 1))
        assert got == pytest.approx(best, rel=1e-5)


def test_ttq_starts_at_the_means_of_its_sides():
    w = random_kernel((30, 2))
    w[0] = 0
    quantizer, variables = built("ttq", w)
    limit = 0.05 * np.abs(w).max(0)
    got = {name: variable.numpy() for name, variable in variables.items()}
    for i, column in enumerate(w.T):
        assert got["positive_scale"][i] == pytest.approx(column[column > limit[i]].mean(), rel=1e-5)
        assert got["negative_scale"][i] == pytest.approx(-column[column < -limit[i]].mean(), rel=1e-5)
    assert len(np.unique(quantizer(tf.constant(w), False, variables).numpy()[:, 0])) == 3


def test_gradients_of_ttq():
    w = tf.constant([[1.0], [0.01], [-0.5], [0.75]])
    quantizer, variables = built("ttq", w.numpy())
    variables["positive_scale"].assign([3.0])
    variables["negative_scale"].assign([1.0])
    with tf.GradientTape() as tape:
        tape.watch(w)
        loss = tf.reduce_sum(quantizer(w, True, variables) * [[1.0], [2.0], [4.0], [8.0]])
    dw, positive, negative = tape.gradient(loss, [w, variables["positive_scale"], variables["negative_scale"]])
    np.testing.assert_allclose(dw, [[1.5], [2.0], [2.0], [12.0]])  # 3/2, 1, 1/2 and 3/2 times the output's gradient
    assert positive == [9.0] and negative == [-4.0]


@pytest.mark.parametrize("method", METHODS)
def test_gradient_of_the_weights_passes(method):
    w = tf.constant(random_kernel((9, 3)))
    quantizer, variables = built(method, w.numpy())
    with tf.GradientTape() as tape:
        tape.watch(w)
        loss = tf.reduce_sum(quantizer(w, True, variables))
    gradient = tape.gradient(loss, w).numpy()
    assert (gradient > 0).all() and (method == "ttq" or (gradient == 1).all())


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sides", [(1.0, 1.0), (1.0, 0.7), (0.3, 1.0), (1.0, 1e-5)])
def test_integers_and_branches_are_the_weights(method, kind, sides):
    shape, depthwise = SHAPES[kind]
    kernel = random_kernel(shape)
    quantizer, variables = built(method, kernel, depthwise=depthwise)
    for name, value in zip(variables, sides, strict=False):
        variables[name].assign(np.full(variables[name].shape, value))
    wanted = quantizer(tf.constant(kernel), False, variables).numpy()
    integers = quantizer.integer_weights(kernel, variables)
    scale = integers.scale.reshape(shape[-2:] if depthwise else shape[-1:])
    np.testing.assert_array_equal(integers.values * scale, wanted)
    branches = quantizer.ternary_weights(kernel, variables)
    assert len(branches.codes) == integers.branches == (2 if method == "ttq" else 1)
    levels = branches.integer_scales
    assert (levels.sum(0) == 127).all() and (levels >= 0).all()
    codes = branches.codes.reshape((len(branches.codes), *quantizer.columns(kernel).shape))
    np.testing.assert_array_equal(
        (codes * branches.integer_scales[:, None]).sum(0).reshape(shape), integers.values.astype(int)
    )
    reached = (quantizer.columns(kernel) > branches.thresholds[:, None]).sum(0)
    digits = np.stack(np.meshgrid(*[(-1, 0, 1)] * len(levels), indexing="ij"), -1).reshape(-1, len(levels))
    stairs = np.sort(digits @ levels, 0)
    np.testing.assert_array_equal(np.take_along_axis(stairs, reached, 0).reshape(shape), integers.values.astype(int))


@pytest.mark.parametrize("method", METHODS)
def test_a_kernel_of_zeros(method):
    kernel = np.zeros((4, 3), np.float32)
    quantizer, variables = built(method, kernel)
    assert not quantizer(tf.constant(kernel), False, variables).numpy().any()
    assert np.isfinite(quantizer.integer_weights(kernel, variables).scale).all()


def test_errors():
    with pytest.raises(ValueError, match="method: expected one of 'twn', 'optimal_twn', 'ttq', got 'x'"):
        TernaryRuleQuantizer("x")
