"""L2_NORMALIZATION and BATCH_MATMUL: vectors of codes, each with itself or with others."""

from __future__ import annotations

import numpy as np

from keras_dbq.reference.ops import Call, register, require_int8
from keras_dbq.reference.rounding import multiply, quantize_multiplier

Array = np.ndarray
F32 = np.float32

# source: TFLite's int8 kernel writes this grid and checks it.
_NORMALIZED_SCALE = 1 / 128
# The longest sum of products of two codes (less their zero points, so up to 255) that int32 holds.
_LARGEST_DEPTH = (2**31 - 1) // 255**2
_NEWTON_STEPS = 5
_HALF_ROOT_2 = 1518500250  # sqrt(1/2) * 2^31


@register("L2_NORMALIZATION")
def l2_normalization(call: Call, x: Array) -> Array:
    """x / |x| over the last axis, on the grid 1/128, 0; equation (27), the builtin kernel in both roundings."""
    require_int8(call)
    y = call.output
    if y.scale != F32(_NORMALIZED_SCALE) or y.zero_point or call.op.option("fusedActivationFunction", 0):
        raise ValueError(f"output {y.name!r}: expected scale 1/128, zero point 0 and no activation, got {y.scale}")
    _check_depth(x.shape[-1])
    centred = x.astype(np.int64) - call.input.zero_point
    m, exponent = inverse_root((centred**2).sum(-1, keepdims=True))
    return np.clip(multiply(centred, m, exponent + 7), -128, 127).astype(np.int8)


def inverse_root(squares: Array) -> tuple[Array, Array]:
    """(m, e), int64: 1 / sqrt(n) ~ m * 2^(e - 31) for n >= 0 within int32 (0 counts as 1); equation (27).

    Newton's iteration x <- (3 x - n x^3) / 2 from x = 1 in fixed point of 28 bits, n brought to [1/2, 2) by fours.
    """
    n = np.maximum(squares.astype(np.int64), 1)
    down = (n >= 1 << 29).astype(np.int64)
    n = n >> (2 * down)
    up = _pairs_up(n)
    n = n << (2 * up)
    shift = 11 + down - up
    half = ((n >> 1) + 1) >> 1
    x = np.full_like(n, 1 << 28)
    for _ in range(_NEWTON_STEPS):
        cube = _saturated(_high(_high(x, x), x) << 6)
        x = _saturated((_high(np.full_like(x, 3 << 27), x) - _high(half, cube)) << 3)
    m = _high(x, np.int64(_HALF_ROOT_2)) << np.maximum(-shift, 0)
    one = squares <= 1
    return np.where(one, 2**31 - 1, m), np.where(one, 0, -np.maximum(shift, 0))


def _pairs_up(n: Array) -> Array:
    """How often n can be multiplied by 4 below 2^29."""
    bits = np.frexp(n.astype(np.float64))[1]  # exact: n < 2^53
    return (31 - bits) // 2 - 1


def _high(a: Array, b: Array | np.int64) -> Array:
    """a * b / 2^31 to nearest, ties up."""
    return (a * b + (1 << 30)) >> 31


def _saturated(x: Array) -> Array:
    return np.clip(x, -(2**31), 2**31 - 1)


@register("BATCH_MATMUL")
def batch_matmul(call: Call, a: Array, b: Array) -> Array:
    """y = (a - z_a) @ (b - z_b), of either the adjoint; equation (28), the builtin kernel in both roundings."""
    require_int8(call)
    ta, tb, y = call.inputs[0], call.inputs[1], call.output
    assert ta is not None and tb is not None
    if tb.dtype != np.int8:
        raise ValueError(f"tensor {tb.name!r}: expected int8, got {tb.dtype}; export a full-integer file")
    a, b = a.astype(np.float64) - ta.zero_point, b.astype(np.float64) - tb.zero_point
    a = np.swapaxes(a, -1, -2) if call.op.option("adjX", False) else a
    b = np.swapaxes(b, -1, -2) if call.op.option("adjY", False) else b
    _check_depth(a.shape[-1])
    total = (a @ b).astype(np.int64)  # exact: below 2^53 in any order
    scaled = multiply(total, *quantize_multiplier(np.float64(ta.scale * tb.scale) / np.float64(y.scale)))
    return np.clip(scaled + y.zero_point, -128, 127).astype(np.int8)


def _check_depth(depth: int) -> None:
    if depth > _LARGEST_DEPTH:
        raise ValueError(f"a sum of {depth} products of codes overflows int32; expected at most {_LARGEST_DEPTH}")
