"""Pooling, means and padding.

AVERAGE_POOL_2D, MAX_POOL_2D, MEAN, REDUCE_MAX, REDUCE_MIN, PAD, PADV2, MIRROR_PAD, RESIZE_NEAREST_NEIGHBOR.
"""

from __future__ import annotations

import math

import numpy as np

from keras_dbq.reference.ops import Call, clamp_activation, register, require_int8, require_same_grid
from keras_dbq.reference.ops_conv import Geometry
from keras_dbq.reference.rounding import multiply, quantize_multiplier, vector_lanes

Array = np.ndarray
F32 = np.float32


def _geometry(call: Call, x: Array) -> Geometry:
    option = call.op.option
    kernel, stride = (option("filterHeight"), option("filterWidth")), (option("strideH"), option("strideW"))
    return Geometry(x, kernel, stride, (1, 1), valid=option("padding") == 1)


def _taps(geometry: Geometry, padded: Array) -> list[Array]:
    return [geometry.tap(padded, i, j) for i in range(geometry.kernel[0]) for j in range(geometry.kernel[1])]


@register("AVERAGE_POOL_2D")
def average_pool_2d(call: Call, x: Array) -> Array:
    """Mean of the codes inside the picture, ties away from zero; (15). The builtin kernel in both roundings."""
    require_int8(call)
    geometry = _geometry(call, x)
    total = sum(t.astype(np.int32) for t in _taps(geometry, np.pad(x, geometry.pad)))
    inside = np.pad(np.ones((1, *x.shape[1:3], 1), np.int32), geometry.pad)
    count = sum(_taps(geometry, inside))
    half_away = np.sign(total) * ((np.abs(total) + count // 2) // count)
    return clamp_activation(call, half_away, "builtin")


@register("MAX_POOL_2D")
def max_pool_2d(call: Call, x: Array) -> Array:
    """Largest code inside the picture."""
    require_int8(call)
    geometry = _geometry(call, x)
    padded = np.pad(x, geometry.pad, constant_values=-128)
    return clamp_activation(call, np.maximum.reduce(_taps(geometry, padded)), call.rounding)


@register("MEAN")
def mean(call: Call, x: Array, axes: Array) -> Array:
    """Mean over axes; equations (16) for xnnpack, (17), (18) for builtin."""
    require_int8(call)
    axes_tuple = tuple(sorted({int(a) % x.ndim for a in np.ravel(axes)}))
    keep = bool(call.op.option("keepDims", False))
    total = x.sum(axis=axes_tuple, keepdims=keep, dtype=np.int64)
    count = math.prod(x.shape[a] for a in axes_tuple)
    if call.rounding == "xnnpack":
        y = _mean_xnnpack(call, total, count)
    elif keep and x.ndim == 4 and axes_tuple == (1, 2):
        y = _mean_builtin_spatial(call, total, count)
    else:
        y = _mean_builtin(call, total, count)
    return np.clip(y, -128, 127).astype(np.int8)


@register("REDUCE_MAX", "REDUCE_MIN")
def reduce_extreme(call: Call, x: Array, axes: Array) -> Array:
    """Largest (smallest) code over axes; the output has the input's grid."""
    require_int8(call)
    require_same_grid(call, call.input)
    reduce = np.max if call.op.name == "REDUCE_MAX" else np.min
    axes_tuple = tuple({int(a) % x.ndim for a in np.ravel(axes)})
    return reduce(x, axis=axes_tuple, keepdims=bool(call.op.option("keepDims", False)))


def _mean_xnnpack(call: Call, total: Array, count: int) -> Array:
    """Equation (16): one float32 multiply and add; the zero points are folded into the addend."""
    multiplier = (call.input.scale / call.output.scale) * (F32(1) / F32(count))
    addend = F32(call.output.zero_point) - F32(count * call.input.zero_point) * multiplier
    return np.rint(total.astype(F32) * multiplier + addend)


def _mean_builtin(call: Call, total: Array, count: int) -> Array:
    """Equation (17): 1 / count is divided into the fixed-point multiplier."""
    m, exponent = (int(v) for v in quantize_multiplier(np.float64(call.input.scale) / np.float64(call.output.scale)))
    shift = min(count.bit_length() - 1, 32, 31 + exponent)
    m = (m << shift) // count
    centred = total - count * call.input.zero_point
    return multiply(centred, np.int64(m), np.int64(exponent - shift)) + call.output.zero_point


def _mean_builtin_spatial(call: Call, total: Array, count: int) -> Array:
    """Equation (18): the kernel for height and width with keep_dims; raw codes, the zero point as a rounded addend.

    Ties go up in vectors of 16 channels.
    """
    x, y = call.input, call.output
    shifted = F32(x.zero_point) * x.scale / y.scale
    addend = y.zero_point - int(shifted + F32(0.5) if shifted > 0 else shifted - F32(0.5))
    m, exponent = quantize_multiplier(x.scale / (F32(count) * y.scale))
    return multiply(total, m, exponent, vector_lanes(total.shape[-1], 16)) + addend


@register("PAD", "PADV2")
def pad(call: Call, x: Array, paddings: Array, value: Array | None = None) -> Array:
    """Constant padding; the value is real 0 (the output's zero point), or PADV2's third input."""
    fill = call.output.zero_point if call.quantized else 0
    if value is not None:
        fill = np.ravel(value)[0]
    return np.pad(x, [tuple(int(v) for v in pair) for pair in paddings], constant_values=fill)


@register("MIRROR_PAD")
def mirror_pad(call: Call, x: Array, paddings: Array) -> Array:
    """Reflection without the border (mode 0, REFLECT) or with it (mode 1, SYMMETRIC)."""
    pairs = [tuple(int(v) for v in pair) for pair in paddings]
    return np.pad(x, pairs, mode="reflect" if call.op.option("mode") == 0 else "symmetric")


@register("RESIZE_NEAREST_NEIGHBOR")
def resize_nearest_neighbor(call: Call, x: Array, size: Array) -> Array:
    """Nearest pixel; equation (19). size: int32 [2], the new height and width."""
    align, half = bool(call.op.option("alignCorners", False)), bool(call.op.option("halfPixelCenters", False))
    rows = _nearest(x.shape[1], int(size[0]), align, half)
    columns = _nearest(x.shape[2], int(size[1]), align, half)
    return x[:, rows][:, :, columns]


def _nearest(old: int, new: int, align_corners: bool, half_pixel: bool) -> Array:
    """Source index of each output index, in float32: floor((i + offset) * scale), or rounded with align_corners."""
    scale = F32(old - 1) / F32(new - 1) if align_corners and new > 1 else F32(old) / F32(new)
    position = (np.arange(new, dtype=F32) + F32(0.5 if half_pixel else 0)) * scale
    index = np.floor(position + F32(0.5)) if align_corners else np.floor(position)
    return np.clip(index.astype(np.int64), 0, old - 1)


@register("RESIZE_BILINEAR")
def resize_bilinear(call: Call, x: Array, size: Array) -> Array:
    """Between the four nearest pixels, on the input's grid; equations (25) for xnnpack, (26) for builtin."""
    require_int8(call)
    require_same_grid(call, call.input)
    align, half = bool(call.op.option("alignCorners", False)), bool(call.op.option("halfPixelCenters", False))
    between = _between_xnnpack if call.rounding == "xnnpack" else _between_builtin
    (top, bottom, down), (left, right, across) = (
        between(old, int(new), align, half) for old, new in zip(x.shape[1:3], size, strict=True)
    )
    codes = x.astype(np.int64)
    one, down = 1 << _FRACTION[call.rounding], down[:, None, None]
    across = across[:, None]
    rows = [codes[:, r][:, :, left] * (one - across) + codes[:, r][:, :, right] * across for r in (top, bottom)]
    total, unit = rows[0] * (one - down) + rows[1] * down, one * one
    if call.rounding == "xnnpack":
        return ((total + unit // 2) // unit).astype(np.int8)
    return (np.sign(total) * ((np.abs(total) + unit // 2) // unit)).astype(np.int8)


_FRACTION = {"xnnpack": 11, "builtin": 10}  # bits of the weights


def _between_xnnpack(old: int, new: int, align_corners: bool, half_pixel: bool) -> tuple[Array, Array, Array]:
    """(one index, the next, the next one's weight times 2**11) of each output index; positions in float32."""
    less = 1 if align_corners and new > 1 else 0
    scale = F32(old - less) / F32(new - less)
    offset = F32(0.5) * scale - F32(0.5) if half_pixel else F32(0)
    position = np.clip(np.arange(new, dtype=F32) * scale + offset, F32(0), F32(old - 1))
    first = position.astype(np.int64)
    weight = np.rint((position - first.astype(F32)) * F32(2048)).astype(np.int64)
    return first, np.minimum(first + 1, old - 1), weight


def _between_builtin(old: int, new: int, align_corners: bool, half_pixel: bool) -> tuple[Array, Array, Array]:
    """The same with positions in units of 2**-10."""
    one = 1 << 10
    less = 1 if align_corners and new > 1 else 0
    scale = (one * (old - less) + (new - less) // 2) // (new - less)
    position = np.arange(new, dtype=np.int64) * scale + (scale // 2 - one // 2 if half_pixel else 0)
    first = np.maximum(np.fix(position / one).astype(np.int64), 0)
    last = np.minimum(np.fix((position + one - 1) / one).astype(np.int64), old - 1)
    return first, last, position - one * first
