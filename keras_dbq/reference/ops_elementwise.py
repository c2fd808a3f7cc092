"""ADD, SUB, MUL, MAXIMUM, MINIMUM, QUANTIZE and DEQUANTIZE.

XNNPACK takes an 8-bit operator only within limits on its scale ratios; outside them the builtin kernel runs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from keras_dbq.reference.ops import Call, clamp_activation, register, require_int8, require_same_grid
from keras_dbq.reference.rounding import (
    Numbers,
    multiply,
    quantize_multiplier,
    requantize_float,
    round_half_away,
    vector_lanes,
)
from keras_dbq.reference.tflite_file import Tensor

Array = np.ndarray
F32 = np.float32
CODES = np.arange(-128, 128, dtype=np.int64)


def look_up(table: Array, x: Array) -> Array:
    """table[x + 128]; table: int8 [256] in the order of the codes."""
    return table[x.astype(np.int16) + 128]


def unary_table(call: Call, function: Callable[[float], float]) -> Array:
    """int8 [256]: function of the real value of each code, quantized; equation (21)."""
    x, y = call.input, call.output
    real = (CODES.astype(F32) - F32(x.zero_point)) * x.scale
    values = np.array([function(float(v)) for v in real], np.float64).astype(F32) * (F32(1) / y.scale)
    if call.rounding == "xnnpack":
        codes = np.rint(values + F32(y.zero_point))
    else:
        codes = round_half_away(values) + F32(y.zero_point)
    return np.clip(codes, -128, 127).astype(np.int8)


def _plain(x: Array) -> Array:
    """x, checked to be an integer tensor of shape arithmetic."""
    if x.dtype not in (np.int32, np.int64):
        raise ValueError(f"expected int8, int32 or int64 tensors, got {x.dtype}; export a full-integer file")
    return x


def _between(ratio: F32, low: float, high: float) -> bool:
    """low <= ratio < high, in float32, as the XNNPACK delegate asks."""
    return bool(F32(low) <= ratio < F32(high))


@register("ADD", "SUB")
def add_or_sub(call: Call, a: Array, b: Array) -> Array:
    """y = a + b or a - b, with numpy broadcasting. int8 codes; int32 and int64 are plain (shape arithmetic)."""
    if not call.quantized:
        return _plain(a) + b if call.op.name == "ADD" else _plain(a) - b
    require_int8(call)
    ta, tb, y = call.inputs[0], call.inputs[1], call.output
    assert ta is not None and tb is not None
    ratios = (ta.scale / y.scale, tb.scale / y.scale)
    if call.rounding == "xnnpack" and all(_between(r, 2.0**-10, 2.0**8) for r in ratios):
        return _add_xnnpack(call, a, b, ta, tb, *ratios)
    return _add_builtin(call, a, b, ta, tb)


def _add_xnnpack(call: Call, a: Array, b: Array, ta: Tensor, tb: Tensor, ratio_a: F32, ratio_b: F32) -> Array:
    """Equation (9): integer multipliers of 21 bits, one rounding shift, ties towards plus infinity."""
    shift = 21 - int(np.frexp(max(ratio_a, ratio_b))[1])  # the larger multiplier lies in [2^20, 2^21]
    ma, mb = (np.int64(np.rint(np.ldexp(np.float64(r), shift))) for r in (ratio_a, ratio_b))
    if call.op.name == "SUB":
        mb = -mb
    acc = (a.astype(np.int64) - ta.zero_point) * ma + (b.astype(np.int64) - tb.zero_point) * mb
    acc = (acc + (np.int64(1) << (shift - 1))) >> shift
    return clamp_activation(call, acc + call.output.zero_point, "xnnpack")


def _add_builtin(call: Call, a: Array, b: Array, ta: Tensor, tb: Tensor) -> Array:
    """Equation (10): both operands to twice the larger input scale with 20 extra bits, the sum to the output's."""
    twice = np.float64(F32(2) * max(ta.scale, tb.scale))
    parts = []
    for codes, tensor in ((a, ta), (b, tb)):
        m, exponent = quantize_multiplier(np.float64(tensor.scale) / twice)
        parts.append(multiply((codes.astype(np.int64) - tensor.zero_point) << 20, m, exponent))
    total = parts[0] + parts[1] if call.op.name == "ADD" else parts[0] - parts[1]
    m, exponent = quantize_multiplier(twice / np.float64(F32(2.0**20) * call.output.scale))
    return clamp_activation(call, multiply(total, m, exponent) + call.output.zero_point, "builtin")


@register("MUL")
def mul(call: Call, a: Array, b: Array) -> Array:
    """y = a * b with broadcasting; equation (11). int8 codes; int32 and int64 are plain (shape arithmetic)."""
    if not call.quantized:
        return _plain(a) * b
    require_int8(call)
    ta, tb, y = call.inputs[0], call.inputs[1], call.output
    assert ta is not None and tb is not None
    real = ta.scale * tb.scale / y.scale  # float32, in this order, for both roundings
    product = (a.astype(np.int32) - ta.zero_point) * (b.astype(np.int32) - tb.zero_point)
    if call.rounding == "xnnpack" and _between(real, 2.0**-16, 2.0**8):
        if ta.index == tb.index:  # XNNPACK turns x * x into a table of squares
            return clamp_activation(call, look_up(unary_table(call, lambda v: v * v), a), "xnnpack")
        return clamp_activation(call, requantize_float(product, real, y.zero_point, -128, 127), "xnnpack")
    m, exponent = quantize_multiplier(real)
    return clamp_activation(call, multiply(product, m, exponent) + y.zero_point, "builtin")


@register("MAXIMUM", "MINIMUM")
def maximum_or_minimum(call: Call, a: Array, b: Array) -> Array:
    """The larger (smaller) code, with broadcasting; both inputs have the output's grid (the runtime does not look)."""
    for tensor in call.inputs:
        assert tensor is not None
        require_same_grid(call, tensor)
    return np.maximum(a, b) if call.op.name == "MAXIMUM" else np.minimum(a, b)


@register("QUANTIZE")
def quantize(call: Call, x: Array) -> Array:
    """Real values to codes, or codes to codes of another scale; equations (12), (13)."""
    y = call.output
    info = np.iinfo(y.dtype)
    scaled = _quantize_real(call, x) if x.dtype == np.float32 else _requantize(call, x)
    return np.clip(scaled + y.zero_point, info.min, info.max).astype(y.dtype)


def _vector_elements(call: Call, x: Array, width: int) -> Array:
    """bool, shape of x: what the builtin kernel handles in vectors when it runs the file's own batch."""
    count = x.size // call.batch_factor
    return np.tile(vector_lanes(count, width), call.batch_factor).reshape(x.shape)


def _quantize_real(call: Call, x: Array) -> Array:
    """Equation (12): times the float32 reciprocal, ties to even; the builtin kernel's tail divides, ties away."""
    scale = call.output.scale
    scaled = np.rint(x * (F32(1) / scale))
    if call.rounding == "xnnpack":
        return scaled
    return np.where(_vector_elements(call, x, 8), scaled, round_half_away(x.astype(np.float64) / np.float64(scale)))


def _requantize(call: Call, x: Array) -> Array:
    """Equation (13): XNNPACK's 8-bit multiplier where it takes the operator, else the fixed-point multiplier."""
    a, y = call.input, call.output
    centred = x.astype(np.int64) - a.zero_point
    ratio = a.scale / y.scale
    if call.rounding == "xnnpack" and x.dtype == y.dtype and F32(2.0**-8) <= ratio <= F32(2.0**7):
        return rescale_xnnpack(centred, np.int64(np.rint(F32(256) * ratio)))
    m, exponent = quantize_multiplier(np.float64(a.scale) / np.float64(y.scale))
    return multiply(centred, m, exponent, _vector_elements(call, x, 16))


def rescale_xnnpack(centred: Array, multiplier: Numbers) -> Array:
    """centred * multiplier / 256 to nearest, ties towards plus infinity; equation (13). int64 in and out."""
    return (centred * multiplier + 128) >> 8


@register("DEQUANTIZE")
def dequantize(call: Call, x: Array) -> Array:
    """(code - zero_point) * scale in float32; (14). The builtin kernel's vectors: code * scale - (z * scale)."""
    scale, zero = call.input.scale, call.input.zero_point
    real = (x.astype(F32) - F32(zero)) * scale
    if call.rounding == "xnnpack":
        return real
    return np.where(_vector_elements(call, x, 8), x.astype(F32) * scale + F32(-zero * np.float64(scale)), real)
