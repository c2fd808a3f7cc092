"""Fake quantization of activations: grid, gradients."""

import numpy as np
import pytest

from keras_dbq.compat import tf
from keras_dbq.ops import activations as activation_ops


@pytest.mark.parametrize("low, high", [(0.0, 6.0), (-1.3, 2.7), (-5.0, 0.01), (0.0, 0.37)])
@pytest.mark.parametrize("bits", [4, 8])
def test_values_are_on_the_nudged_grid(low, high, bits):
    x = np.linspace(low - 1, high + 1, 1001).astype(np.float32)
    y = activation_ops.fake_quant(tf.constant(x), tf.constant(low), tf.constant(high), bits=bits).numpy()
    scale, zero_point = activation_ops.nudged_grid(low, high, bits)
    codes = y / scale + zero_point
    np.testing.assert_allclose(codes, np.round(codes), atol=2e-3)
    assert (codes.min(), codes.max()) == pytest.approx((127 - (2**bits - 1), 127), abs=2e-3)  # int8's upper end
    inside = (x > low + scale) & (x < high - scale)
    assert np.abs(y - x)[inside].max() <= scale * 0.5001
    assert activation_ops.fake_quant(tf.zeros(1), tf.constant(low), tf.constant(high), bits=bits).numpy()[0] == 0


def test_gradients_are_one_inside_and_at_the_ends():
    x = tf.constant([-3.0, -0.5, 0.5, 5.0])
    low, high, dy = tf.constant(-1.0), tf.constant(2.0), tf.constant([1.0, 10.0, 100.0, 1000.0])
    with tf.GradientTape() as tape:
        tape.watch([x, low, high])
        loss = tf.reduce_sum(activation_ops.fake_quant(x, low, high) * dy)
    d_x, d_low, d_high = tape.gradient(loss, [x, low, high])
    np.testing.assert_array_equal(d_x.numpy(), [0, 10, 100, 0])
    # Outside 1; inside the rounding error's share of the range, closed form in test_threshold_ops.py.
    y = activation_ops.fake_quant(x, low, high).numpy()
    error = float(np.sum(dy.numpy()[1:3] * (y - x.numpy())[1:3])) / 3
    assert d_low.numpy() == pytest.approx(1 - error, rel=1e-5)
    assert d_high.numpy() == pytest.approx(1000 + error, rel=1e-5)


def test_unsigned_equals_signed_with_low_zero():
    x = tf.constant(np.random.default_rng(0).uniform(0, 3, 100).astype(np.float32))
    dy = tf.constant(np.random.default_rng(1).normal(size=100).astype(np.float32))
    results = []
    for function in (
        lambda x, high: activation_ops.fake_quant(x, tf.constant(0.0), high),
        activation_ops.fake_quant_unsigned,
    ):
        high = tf.constant(2.0)
        with tf.GradientTape() as tape:
            tape.watch([x, high])
            y = function(x, high)
            loss = tf.reduce_sum(y * dy)
        results.append([y.numpy(), *(g.numpy() for g in tape.gradient(loss, [x, high]))])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_empty_range_has_a_grid():
    assert activation_ops.nudged_grid(0.0, 0.0) == (1.0, -128)


@pytest.mark.parametrize("bits", [4, 5, 8])
def test_the_scale_of_tensors_and_of_numbers_is_the_same(bits):
    rng = np.random.default_rng(3)
    for low, high in rng.exponential(size=(20, 2)).astype(np.float32) * np.float32([-1, 1]):
        scale = activation_ops.grid_scale(tf.constant(low), tf.constant(high), bits).numpy()
        assert scale == activation_ops.nudged_grid(low, high, bits)[0] and scale.dtype == np.float32


@pytest.mark.parametrize("low, high, bits", [(-0.75, 0.75, 8), (-0.5, 2.5, 4), (-1.0, 1.0, 8), (-1.3, 2.7, 8)])
def test_xla_uses_the_same_grid(low, high, bits):
    """TensorFlow's operator alone takes another zero point under XLA for the first two (tensorflow#117962)."""

    def ends(x):
        return activation_ops.fake_quant(x, tf.constant(low), tf.constant(high), bits=bits)

    x = tf.constant([-9.0, 0.0, 9.0])
    scale, zero_point = activation_ops.nudged_grid(low, high, bits)
    expected = scale * (np.array([128 - 2**bits, zero_point, 127]) - zero_point)
    for jit in (False, True):
        np.testing.assert_allclose(tf.function(ends, jit_compile=jit)(x), expected, atol=1e-6)
