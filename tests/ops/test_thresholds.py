"""Trainable thresholds: closed forms of values and gradients, and ranges that hold zero."""

import numpy as np
import pytest

from keras_dbq.compat import tf
from keras_dbq.ops import activations as activation_ops
from keras_dbq.ops import thresholds as threshold_ops


def gradients(function, *values):
    values = [tf.constant(v, tf.float32) for v in values]
    with tf.GradientTape() as tape:
        tape.watch(values)
        y = function(*values)
    return y.numpy(), [g.numpy() for g in tape.gradient(y, values)]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_weights_equal_the_closed_form(bits, channels):
    rng = np.random.default_rng(bits)
    w = rng.normal(size=(50, 3)).astype(np.float32)
    threshold = rng.uniform(0.8, 1.5, channels).astype(np.float32)
    dy = rng.normal(size=w.shape).astype(np.float32)
    _, (d_w, d_threshold) = gradients(
        lambda w, t: tf.reduce_sum(threshold_ops.quantize_weights(w, t, bits) * dy), w, threshold
    )
    y = threshold_ops.quantize_weights(tf.constant(w), tf.constant(threshold), bits).numpy()
    top = 2 ** (bits - 1) - 1
    codes = np.clip(np.rint(w / (threshold / top)), -top, top)
    np.testing.assert_allclose(y, codes * threshold / top, rtol=1e-6)
    inside = np.abs(w) <= threshold
    assert 0 < inside.mean() < 1
    np.testing.assert_array_equal(d_w, dy * inside)
    expected = (dy * np.where(inside, (y - w) / threshold, np.sign(w))).astype(np.float64)
    expected = expected.sum(0) if channels == 3 else expected.sum(keepdims=True).reshape(1)
    np.testing.assert_allclose(d_threshold, expected, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_threshold_is_the_slope_between_steps():
    """y is piecewise linear in T while no code changes: finite differences equal the derivative of code * T / L."""
    w, t = np.array([[0.31], [2.0]], np.float32), 1.0
    codes = np.array([[np.rint(0.31 * 127)], [127.0]])
    step = 1e-3
    above, below = (
        threshold_ops.quantize_weights(tf.constant(w), tf.constant([t + e], tf.float32), 8).numpy()
        for e in (step, -step)
    )
    np.testing.assert_allclose((above - below) / (2 * step), codes / 127, rtol=1e-3)
    # Straight-through adds -w / T to what is rounded (source: d round = 1), and nothing to what is clipped.
    _, (_, d) = gradients(lambda w, t: threshold_ops.quantize_weights(w, t, 8)[0, 0], w, np.array([t]))
    np.testing.assert_allclose(d, codes[0] / 127 - w[0], atol=1e-6)
    _, (_, d) = gradients(lambda w, t: threshold_ops.quantize_weights(w, t, 8)[1, 0], w, np.array([t]))
    np.testing.assert_allclose(d, 1.0)


@pytest.mark.parametrize("factor, used", [(0.2, 0.5), (0.7, 0.7), (1.4, 1.0)])
def test_factors_are_projected_and_keep_their_gradient(factor, used):
    y, (d_largest, d_factor) = gradients(threshold_ops.symmetric_threshold, 3.0, factor)
    assert y == pytest.approx(3 * used) and d_largest == pytest.approx(used) and d_factor == pytest.approx(3.0)
    assert threshold_ops.FACTOR.project(tf.constant(factor)).numpy() == pytest.approx(used)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("unsigned", [True, False])
def test_symmetric_ranges_have_a_whole_zero_point(bits, unsigned):
    low, high = threshold_ops.symmetric_range(tf.constant(1.7), bits, unsigned)
    scale, zero_point = activation_ops.nudged_grid(low.numpy(), high.numpy(), bits)
    bottom = activation_ops.bottom_code(bits)
    assert zero_point == (bottom if unsigned else bottom + 2 ** (bits - 1))
    steps = 2**bits - 1 if unsigned else 2 ** (bits - 1) - 1
    assert scale == pytest.approx(1.7 / steps, rel=1e-6)


def test_asymmetric_ranges():
    low, high = threshold_ops.asymmetric_range(*map(tf.constant, (-1.0, 3.0, 0.1, 0.75)), unsigned=False)
    assert low.numpy() == pytest.approx(-0.6) and high.numpy() == pytest.approx(2.4)
    _, (d_low, d_high, d_shift, d_width) = gradients(
        lambda *v: threshold_ops.asymmetric_range(*v, unsigned=False)[1], -1.0, 3.0, 0.1, 0.75
    )
    # right = low (1 - a_T - a_R) + high (a_T + a_R)
    assert [d_low, d_high, d_shift, d_width] == pytest.approx([0.15, 0.85, 4.0, 4.0])
    # Past their intervals: -0.2 and 1; and zero stays inside.
    low, high = threshold_ops.asymmetric_range(*map(tf.constant, (-1.0, 3.0, -0.5, 1.5)), unsigned=False)
    assert low.numpy() == pytest.approx(-1.8) and high.numpy() == pytest.approx(2.2)
    low, high = threshold_ops.asymmetric_range(*map(tf.constant, (-0.1, 3.0, 0.4, 0.5)), unsigned=False)
    assert low.numpy() == 0 and high.numpy() == pytest.approx(-0.1 + 0.9 * 3.1)
    low, high = threshold_ops.asymmetric_range(*map(tf.constant, (0.0, 3.0, 0.3, 0.5)), unsigned=True)
    assert low.numpy() == 0 and high.numpy() == pytest.approx(2.4)


def test_the_range_of_activations_trains():
    """derived: dy/dhigh = (y - x) / (high - low) inside, 1 above; dy/dlow = -(y - x) / (high - low) inside, 1 below."""
    rng = np.random.default_rng(0)
    x, dy = rng.normal(0, 1.5, 500).astype(np.float32), rng.normal(size=500).astype(np.float32)
    low, high = np.float32(-1.0), np.float32(2.0)
    y, (d_x, d_low, d_high) = gradients(
        lambda x, low, high: tf.reduce_sum(activation_ops.fake_quant(x, low, high, bits=4) * dy), x, low, high
    )
    y = activation_ops.fake_quant(tf.constant(x), tf.constant(low), tf.constant(high), bits=4).numpy()
    inside = (x > low) & (x < high)
    error = np.where(inside, (y - x) / (high - low), 0)
    np.testing.assert_array_equal(d_x, dy * inside)
    assert d_high == pytest.approx(np.sum(dy * (error + (x >= high))), rel=1e-4)
    assert d_low == pytest.approx(np.sum(dy * (-error + (x <= low))), rel=1e-4)
    unsigned = np.abs(x)
    _, (_, d_high) = gradients(
        lambda x, high: tf.reduce_sum(activation_ops.fake_quant_unsigned(x, high, bits=4) * dy), unsigned, high
    )
    y = activation_ops.fake_quant_unsigned(tf.constant(unsigned), tf.constant(high), bits=4).numpy()
    expected = np.where(unsigned < high, (y - unsigned) / high, 1)
    assert d_high == pytest.approx(np.sum(dy * expected), rel=1e-4)
