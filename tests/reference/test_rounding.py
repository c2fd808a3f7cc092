"""Golden vectors of the requantization arithmetic: ties, signs, shifts and clamps, worked out by hand."""

import ctypes
import ctypes.util

import numpy as np
import pytest

from keras_dbq.reference import rounding
from keras_dbq.reference.ops_activation import expf


def test_requantize_float_rounds_ties_to_even():
    accumulator = np.array([5, 7, -5, -7, 6, 1000, -1000], np.int32)
    got = rounding.requantize_float(accumulator, np.float32(0.5), 0, -128, 127)
    assert got.tolist() == [2, 4, -2, -4, 3, 127, -128]


def test_requantize_float_per_channel_zero_point_and_clamp():
    accumulator = np.array([[100, 100], [-300, 51]], np.int32)
    got = rounding.requantize_float(accumulator, np.array([0.25, 0.03], np.float32), -10, -40, 14)
    assert got.tolist() == [[14, -7], [-40, -8]]


def test_requantize_float_converts_the_accumulator_to_float32_first():
    """2^24 + 1 is no float32: it becomes 2^24, which times 2^-23 is 2 and not 2.0000001."""
    accumulator = np.array([2**24 + 1, 3 * 2**22 + 1], np.int32)
    assert rounding.requantize_float(accumulator, np.float32(2.0**-23), 0, -128, 127).tolist() == [2, 2]
    assert rounding.requantize_float(np.array([2**25 + 2]), np.float32(2.5 * 2.0**-25), 0, -128, 127).tolist() == [2]


@pytest.mark.parametrize(
    "real,m,exponent",
    [
        (0.5, 1 << 30, 0),
        (1.0, 1 << 30, 1),
        (0.3, 1288490189, -1),
        (-0.75, -1610612736, 0),
        (0.0, 0, 0),
        (2.0**-40, 0, 0),
    ],
)
def test_quantize_multiplier(real, m, exponent):
    assert tuple(int(v) for v in rounding.quantize_multiplier(real)) == (m, exponent)


def test_quantize_multiplier_carries_into_the_exponent():
    """The fraction 1 - 2^-40 rounds to 2^31, which is written as 2^30 with one more in the exponent."""
    assert tuple(int(v) for v in rounding.quantize_multiplier(1 - 2.0**-40)) == (1 << 30, 1)


def test_multiply_by_a_quarter_tells_the_two_roundings_apart():
    """m = 2^30, e = -1: the first step halves with ties up, the second halves again."""
    x = np.array([6, 5, -6, -5, 2, -2, -1, -3])  # halves: 3, 3, -3, -2, 1, -1, 0, -1
    m, exponent = rounding.quantize_multiplier(0.25)
    assert rounding.multiply(x, m, exponent).tolist() == [2, 2, -2, -1, 1, -1, 0, -1]
    assert rounding.multiply(x, m, exponent, half_up=True).tolist() == [2, 2, -1, -1, 1, 0, 0, 0]


def test_multiply_shifts_left_before_the_product():
    m, exponent = rounding.quantize_multiplier(6.0)
    assert rounding.multiply(np.array([7, -7]), m, exponent).tolist() == [42, -42]


def test_vector_lanes_are_whole_vectors_only():
    assert rounding.vector_lanes(11, 4).tolist() == [True] * 8 + [False] * 3


def test_round_half_away():
    x = np.array([0.5, -0.5, 1.5, 2.5, -2.5, 0.49999997, 1e9], np.float32)
    assert rounding.round_half_away(x).tolist() == [1, -1, 2, 3, -3, 0, 1e9]


def test_activation_range():
    """6 / 2.4 = 2.5 exactly in float32: ties go to even, or away from zero."""
    assert np.float32(6) / np.float32(2.4) == 2.5
    assert rounding.activation_range(3, np.float32(2.4), 0, "xnnpack", -128, 127) == (0, 2)
    assert rounding.activation_range(3, np.float32(2.4), 0, "builtin", -128, 127) == (0, 3)
    assert rounding.activation_range(1, np.float32(0.1), -128, "builtin", -128, 127) == (-128, 127)
    assert rounding.activation_range(2, np.float32(0.1), 5, "xnnpack", -128, 127) == (-5, 15)
    assert rounding.activation_range(0, np.float32(0.1), 5, "xnnpack", -128, 127) == (-128, 127)
    with pytest.raises(ValueError, match="fused activation 4 is not supported; expected NONE, RELU"):
        rounding.activation_range(4, np.float32(0.1), 5, "xnnpack", -128, 127)


def test_expf_is_the_c_library_s():
    name = ctypes.util.find_library("m")
    if name is None:
        pytest.skip("no C math library found")
    libm = ctypes.CDLL(name)
    libm.expf.restype, libm.expf.argtypes = ctypes.c_float, [ctypes.c_float]
    x = -np.random.default_rng(0).uniform(0, 104, 20000).astype(np.float32)
    assert np.array_equal(expf(x), np.array([libm.expf(float(v)) for v in x], np.float32))
