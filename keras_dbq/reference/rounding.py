"""Requantization arithmetic: XNNPACK's float32 rounding, and the builtin kernels' fixed-point roundings.

Equation numbers refer to docs/rounding.md.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray
# A numpy array or scalar; a plain number where one is converted first.
Numbers = np.ndarray | np.number

# The schema's ActivationFunctionType -> bounds of the real value (None: unbounded).
ACTIVATION_BOUNDS: dict[int, tuple[float | None, float | None]] = {
    0: (None, None),  # NONE
    1: (0.0, None),  # RELU
    2: (-1.0, 1.0),  # RELU_N1_TO_1
    3: (0.0, 6.0),  # RELU6
}


def round_half_away(x: Numbers) -> Array:
    """Nearest integer, ties away from zero (C's `round`), in the dtype of x (float)."""
    # trunc(x + 0.5) would be wrong for the largest float below 0.5: compare the exact fraction instead.
    whole = np.trunc(x)
    return whole + np.copysign(np.abs(x - whole) >= 0.5, x)


def input_codes(x: Array, scale: np.float32, zero_point: int, low: int = -128, high: int = 127) -> Array:
    """Codes of real inputs, on the side of a tie that training took.

    source: TensorFlow's fake-quant operator, float32, operation for operation: floor((clip(x) - bottom) * (1 / scale)
    + 0.5) + low with bottom = (low - zero_point) * scale. choice: not rne(x / scale), because normalisations such as
    x / 127.5 - 1 put every pixel value on a tie, where half of the codes would differ from those seen in training.
    """
    bottom, top = np.float32(low - zero_point) * scale, np.float32(high - zero_point) * scale
    shifted = np.clip(x.astype(np.float32), bottom, top) - bottom
    return np.clip(np.floor(shifted * (np.float32(1) / scale) + np.float32(0.5)) + np.float32(low), low, high)


def activation_range(activation: int, scale: np.float32, zero_point: int, rounding: str, low: int, high: int) -> tuple:
    """(low, high) narrowed to the codes of a fused activation's bounds; equations (3) and (8).

    xnnpack: bound v -> clamp(rne(v / scale + zero_point)); builtin: zero_point + round_half_away(v / scale), float32.

    Raises:
      ValueError: for an activation other than NONE, RELU, RELU_N1_TO_1, RELU6.
    """
    if activation not in ACTIVATION_BOUNDS:
        raise ValueError(f"fused activation {activation} is not supported; expected NONE, RELU, RELU_N1_TO_1 or RELU6")

    def code(bound: float) -> int:
        ratio = np.float32(bound) / np.float32(scale)
        if rounding == "xnnpack":
            return int(np.rint(np.clip(ratio + np.float32(zero_point), low, high)))
        return int(np.clip(zero_point + round_half_away(ratio), low, high))

    lower, upper = ACTIVATION_BOUNDS[activation]
    return (low if lower is None else code(lower), high if upper is None else code(upper))


def requantize_float(accumulator: Array, multiplier: Numbers, zero_point: int, low: int, high: int) -> Array:
    """clamp(zero_point + rne(float32(accumulator) * multiplier)); equation (2), XNNPACK's.

    Args:
      accumulator: exact integers in int32, float32 or float64 (bias included), channels last; float32 is overwritten.
      multiplier: float32 scalar or [channels].

    Returns: int8, the shape of accumulator.
    """
    y = accumulator.astype(np.float32, copy=False)
    y *= np.asarray(multiplier, np.float32)
    np.rint(y, out=y)
    y += np.float32(zero_point)
    np.clip(y, low, high, out=y)
    return y.astype(np.int8)


def quantize_multiplier(real: Numbers | float) -> tuple[Array, Array]:
    """(m, e), int64, with real ~ m * 2^(e - 31) and m in [2^30, 2^31) (negative for a negative real); equation (5).

    Multipliers below 2^-32 become 0.
    """
    fraction, exponent = np.frexp(np.asarray(real, np.float64))
    m = round_half_away(fraction * 2.0**31).astype(np.int64)
    carry = np.abs(m) == 1 << 31
    m, exponent = np.where(carry, m // 2, m), exponent + carry
    tiny = exponent < -31
    return np.where(tiny, 0, m), np.where(tiny, 0, exponent).astype(np.int64)


def multiply(x: Array, m: Numbers, exponent: Numbers, half_up: Array | bool = False) -> Array:
    """x * m * 2^(exponent - 31) in two rounding steps; equations (6) and (7).

    First h = (x * 2^max(exponent, 0) * m) / 2^31 to nearest, ties up; then h / 2^max(-exponent, 0) to nearest, with
    ties away from zero (scalar kernels), or up where `half_up` (ruy, and kernels written in vector instructions).

    Args:
      x: integers within int32. m, exponent: int64, from `quantize_multiplier`, broadcast against x. half_up: bool, too.

    Returns: int64.
    """
    high = ((x.astype(np.int64) << np.maximum(exponent, 0)) * np.asarray(m) + (1 << 30)) >> 31
    return rounding_shift(high, np.maximum(-np.asarray(exponent), 0), half_up)


def rounding_shift(x: Array, shift: Array | int, half_up: Array | bool = False) -> Array:
    """x / 2^shift to nearest, ties away from zero, or up where `half_up`; int64."""
    half = (np.int64(1) << shift) >> 1
    # A negative tie is the only case that tells the two apart: one less before the shift sends it down.
    return (x + half - ((x < 0) & (half > 0) & ~np.asarray(half_up))) >> shift


def vector_lanes(count: int, width: int) -> Array:
    """bool [count]: the elements that a kernel handles in whole vectors of `width`; the tail is scalar code."""
    return np.arange(count) < count // width * width
