"""Codes of a half-wave Gaussian: the published constants, the least error, the function and its gradient."""

from statistics import NormalDist

import numpy as np
import pytest

from keras_dbq.compat import tf
from keras_dbq.ops import codes

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "sparsity, threshold, step",
    [
        (0.5, 0, 0.5388),  # HWGQ
        (0.5625, 0.1573, 0.5906),
        (0.625, 0.3186, 0.6483),
        (0.6875, 0.4888, 0.7136),
        (0.75, 0.6745, 0.7868),
    ],
)
def test_constants_of_two_bits(sparsity, threshold, step):
    found = codes.half_wave_gaussian(2, sparsity)
    assert found.threshold == pytest.approx(threshold, abs=5e-5) and found.step == pytest.approx(step, abs=5e-5)


@pytest.mark.parametrize("bits, step", [(3, 0.3534), (4, 0.1932)])
def test_constants_of_plain_rounding(bits, step):
    found = codes.half_wave_gaussian(bits)
    assert found.step == pytest.approx(step, abs=5e-5) and found.threshold == found.step / 2


def test_only_one_sparsity_of_the_table_is_near_plain_rounding():
    near = [s for s in (0.5, 0.5625, 0.625, 0.6875, 0.75) if codes.half_wave_gaussian(2, s).near_rounding]
    assert near == [0.625]


def reference(x, threshold, step, bits):
    """Q in numpy, by the nearest level."""
    levels = step * np.arange(1, 2**bits)
    nearest = levels[np.abs(x[:, None] - levels[::-1]).argmin(1) * -1 - 1]  # of two equally near the upper one
    return np.where(x > threshold, nearest, 0)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("sparsity", [0.5, 0.6, 0.75, None])
def test_no_other_step_has_less_error(bits, sparsity):
    x = RNG.normal(size=200_000)
    found = codes.half_wave_gaussian(bits, sparsity)

    def error(step):
        threshold = step / 2 if sparsity is None else found.threshold
        above = x > (0 if sparsity is None else threshold)
        return ((reference(x, threshold, step, bits) - x)[above] ** 2).sum()

    best = error(found.step)
    assert all(best <= 1.001 * error(f * found.step) for f in (0.5, 0.8, 0.95, 1.05, 1.2, 2.0))
    if sparsity is not None:
        assert (x <= found.threshold).mean() == pytest.approx(sparsity, abs=5e-3)


@pytest.mark.parametrize("threshold", [None, 0.4])
def test_a_histogram_of_gaussian_numbers_gives_the_gaussian_constants(threshold):
    counts, edges = np.histogram(RNG.normal(size=400_000), 4000)
    moments = codes.histogram_moments((edges[1:] + edges[:-1]) / 2, counts.astype(float))
    found = codes.fit_codes(2, moments, threshold, [2.0, 0.5, 0.1])
    wanted = codes.half_wave_gaussian(2, None if threshold is None else NormalDist().cdf(threshold))
    assert found.step == pytest.approx(wanted.step, rel=0.01)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9])
def test_values_and_gradient(bits, threshold):
    x, step, top = RNG.normal(0, 2, 500).astype(np.float32), np.float32(0.6), 2**bits - 1
    tensor = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        y = codes.sparse_codes(tensor, tf.constant(threshold, tf.float32), tf.constant(step), bits)
    np.testing.assert_allclose(y, reference(x, np.float32(threshold), step, bits), atol=1e-6)
    np.testing.assert_array_equal(tape.gradient(y, tensor), (x > 0) & (x < top * step))


def test_rounding_has_no_threshold_of_its_own_and_a_tie_goes_up():
    x = tf.constant([-1, 0, 0.24, 0.25, 0.74, 0.75, 9.0])
    y = codes.sparse_codes(x, tf.constant(0.7), tf.constant(0.5), 2, rounded=True)
    np.testing.assert_array_equal(y, [0, 0, 0, 0.5, 0.5, 1.0, 1.5])
