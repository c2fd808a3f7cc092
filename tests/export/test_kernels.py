"""fit_bias: what makes a bias fit int32, and what that does to the weights."""

import dataclasses

import numpy as np
import pytest

from keras_dbq.export.kernels import Kernel, fit_bias, runnable_scale
from keras_dbq.limits import bias_room
from keras_dbq.tflite.levels import find_branches

KERNEL = Kernel(
    "layer",
    np.array([[127, 127], [-127, 100], [0, 27]], np.int8),
    np.array([0.5, 0.5], np.float32),
    np.array([1.0, -2.0]),
    branches=2,
)


def test_bias_is_rounded_to_input_times_weight_scale():
    fitted, bias = fit_bias(KERNEL, 0.3)
    assert fitted is KERNEL and bias.dtype == np.int32
    np.testing.assert_array_equal(bias, np.rint([1 / 0.15, -2 / 0.15]))


@pytest.mark.parametrize("branches", [0, 2])
@pytest.mark.parametrize("scale", [1e-10, 1e-12, 1e-20])
def test_a_bias_too_large_for_int32_raises_the_scale(scale, branches):
    kernel = dataclasses.replace(KERNEL, scale=np.array([0.5, scale], np.float32), branches=branches)
    fitted, bias = fit_bias(kernel, 0.3)
    # As small as the bias allows: its integer fills the room to float32's precision.
    assert bias_room(3) * (1 - 2e-7) < abs(int(bias[1])) <= bias_room(3)
    steps = 0.3 * fitted.scale.astype(np.float64)
    assert np.all(np.abs(bias * steps - kernel.bias) <= 0.5 * steps + 1e-12)
    # What the weights add moves by less than one part in 10**6 of the bias.
    moved = fitted.columns[:, 1] * np.float64(fitted.scale[1]) - kernel.columns[:, 1] * scale
    assert np.abs(moved).sum() * 0.3 * 255 < 2e-6 * abs(kernel.bias[1])
    assert fitted.scale[1] > scale


def test_channels_with_room_stay_as_they_are():
    fitted, _ = fit_bias(dataclasses.replace(KERNEL, scale=np.array([0.5, 1e-10], np.float32)), 0.3)
    np.testing.assert_array_equal(fitted.columns[:, 0], KERNEL.columns[:, 0])
    assert fitted.scale[0] == np.float32(0.5)  # not even by a rounding


def test_one_scale_for_all_channels_stays_one():
    kernel = dataclasses.replace(KERNEL, scale=np.full(2, 1e-10, np.float32)).with_one_scale()
    fitted, bias = fit_bias(kernel, 0.3)
    assert fitted.scale.shape == (1,) and np.abs(bias.astype(np.int64)).max() <= bias_room(3)
    # The larger bias decides; both channels shrink by the same ratio.
    assert bias.tolist()[1] == pytest.approx(-bias_room(3), rel=1e-6) and bias[0] == pytest.approx(-bias[1] / 2)
    assert KERNEL.with_one_scale().scale.tolist() == [0.5]
    different = dataclasses.replace(KERNEL, scale=np.array([0.5, 0.25], np.float32))
    assert different.with_one_scale() is different


@pytest.mark.parametrize("bias", [3.0, 10.0, 40.0, 150.0])
def test_a_raised_scale_keeps_two_branches(bias):
    trits = np.random.default_rng(0).integers(-1, 2, (2, 400, 1))
    columns = (trits[0] * 100 + trits[1] * 27).astype(np.int8)
    kernel = Kernel("layer", columns, np.array([1e-8], np.float32), np.array([bias]), branches=2)
    fitted, _ = fit_bias(kernel, 0.1)
    assert fitted.scale[0] > 1e-8 and not np.array_equal(fitted.columns, columns)
    assert find_branches(fitted.columns) is not None


def test_linear_integers_are_rounded_each():
    columns = np.arange(-127, 128, dtype=np.int8)[:, None]
    bias = np.array([float(bias_room(255)) * 1e-8])  # twice what the scale has room for
    fitted, _ = fit_bias(Kernel("layer", columns, np.array([0.5e-8], np.float32), bias), 1.0)
    ratio = np.float64(np.float32(0.5e-8)) / 1e-8  # off 0.5 by float32's rounding: no ties
    np.testing.assert_array_equal(fitted.columns, np.rint(columns * ratio))


def test_a_dot_product_over_int32_is_refused():
    kernel = Kernel("wide", np.ones((70_000, 1), np.int8), np.ones(1, np.float32), np.zeros(1))
    with pytest.raises(ValueError, match="layer 'wide': expected a dot product that fits int32, got 70000 weights"):
        fit_bias(kernel, 1.0)


@pytest.mark.parametrize("field, value", [("bias", [1.0, np.nan]), ("bias", [np.inf, 0]), ("scale", [np.nan, 1])])
def test_weights_that_are_not_finite_are_refused(field, value):
    kernel = dataclasses.replace(KERNEL, **{field: np.array(value, getattr(KERNEL, field).dtype)})
    with pytest.raises(ValueError, match="layer 'layer': expected finite weights and biases, got NaN or infinity"):
        fit_bias(kernel, 0.3)


def test_a_runnable_scale_gives_the_same_codes_for_every_sum_and_zero_point():
    source, target = 0.02, 1e-7
    scale = np.array([1e-9, 1e-6, 0.005, 3.0], np.float32)  # multipliers 0.0002, 0.2, 1,000 and 600,000
    runnable = runnable_scale(scale, source, target)
    np.testing.assert_array_equal(runnable[:2], scale[:2])
    multiplier = (np.float32(source) * runnable / np.float32(target)).astype(np.float32)
    assert multiplier.max() < 256
    sums = np.array([-(2**30), -2, -1, 0, 1, 2, 2**30])[:, None]
    for zero_point in (-128, -1, 0, 127):
        before, after = (
            np.clip(zero_point + np.rint(sums * (source * s.astype(np.float64) / target)), -128, 127)
            for s in (scale, runnable)
        )
        np.testing.assert_array_equal(before, after)
