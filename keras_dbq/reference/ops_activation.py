"""Activations: SOFTMAX, LOGISTIC, TANH, HARD_SWISH, LEAKY_RELU, RELU, RELU6, RELU_N1_TO_1.

A function of one code is a table of 256 codes. XNNPACK takes LOGISTIC, TANH and LEAKY_RELU; the others are the builtin
kernels' in both roundings.
"""

from __future__ import annotations

import math

import numpy as np

from keras_dbq.reference.ops import Call, register, require_int8
from keras_dbq.reference.ops_elementwise import CODES, look_up, rescale_xnnpack, unary_table
from keras_dbq.reference.rounding import (
    activation_range,
    multiply,
    quantize_multiplier,
    round_half_away,
    rounding_shift,
)

Array = np.ndarray
F32 = np.float32

# source: the polynomial of expf in Arm's optimized routines, which glibc and Android's libm use: 2^r on [-1/64, 1/64].
_EXP2_POLYNOMIAL = tuple(
    float.fromhex(c) for c in ("0x1.c6af84b912394p-5", "0x1.ebfce50fac4f3p-3", "0x1.62e42ff0c52d6p-1")
)


def expf(x: Array) -> Array:
    """e^x of float32, bit for bit what the C library's `expf` gives (numpy's own differs in the last bit)."""
    scaled = x.astype(np.float64) * (math.log2(math.e) * 32)
    k = np.rint(scaled)
    r = (scaled - k) / 32
    c0, c1, c2 = _EXP2_POLYNOMIAL
    return (((c0 * r + c1) * (r * r) + (c2 * r + 1)) * np.exp2(k / 32)).astype(np.float32)


@register("SOFTMAX")
def softmax(call: Call, x: Array) -> Array:
    """exp(beta * x) / sum over the last axis; equation (20): a float32 table, summed in order, ties away from zero."""
    require_int8(call)
    beta = F32(call.op.option("beta", 1.0))
    table = expf((-call.input.scale * beta) * np.arange(256, dtype=F32))  # of the distance to the largest code
    e = table[x.max(axis=-1, keepdims=True).astype(np.int16) - x]
    total = np.cumsum(e, axis=-1, dtype=np.float32)[..., -1:]  # cumsum adds in order, sum would add in pairs
    probability = round_half_away(e * (F32(1) / (total * call.output.scale)))
    return np.clip(probability + call.output.zero_point, -128, 127).astype(np.int8)


@register("LOGISTIC")
def logistic(call: Call, x: Array) -> Array:
    """1 / (1 + exp(-x)); equation (21). XNNPACK in float64, e / (1 + e); the builtin kernel in float32."""
    require_int8(call)

    def in_float64(v: float) -> float:
        e = math.exp(min(max(v, -100.0), 100.0))
        return e / (1 + e)

    def in_float32(v: float) -> float:
        return float(F32(1) / (F32(1) + expf(np.array(min(max(-v, -88.0), 88.0)))))

    return look_up(unary_table(call, in_float64 if call.rounding == "xnnpack" else in_float32), x)


@register("TANH")
def tanh(call: Call, x: Array) -> Array:
    """tanh(x); equation (21)."""
    require_int8(call)
    return look_up(unary_table(call, math.tanh), x)


@register("LEAKY_RELU")
def leaky_relu(call: Call, x: Array) -> Array:
    """x where x >= 0, else alpha * x; equations (13) per sign for xnnpack, (22) for builtin."""
    require_int8(call)
    a, y, alpha = call.input, call.output, F32(call.op.option("alpha", 0.0))
    centred = CODES - a.zero_point
    ratio = a.scale / y.scale
    if call.rounding == "xnnpack" and _xnnpack_takes_leaky_relu(ratio, ratio * alpha):
        positive, negative = (np.int64(np.rint(F32(256) * r)) for r in (ratio, ratio * alpha))
        table = rescale_xnnpack(centred, np.where(centred > 0, positive, negative))
    else:
        m, exponent = quantize_multiplier(a.scale * alpha / y.scale)
        below = np.sign(m) * multiply(centred, np.abs(m), exponent)
        table = np.where(centred >= 0, multiply(centred, *quantize_multiplier(ratio)), below)
    return look_up(np.clip(table + y.zero_point, -128, 127).astype(np.int8), x)


def _xnnpack_takes_leaky_relu(positive: F32, negative: F32) -> bool:
    """The XNNPACK delegate's limits on the two input-to-output ratios."""
    if not F32(2.0**-8) <= positive <= F32(128):
        return False
    return bool(F32(-127.99609375) <= negative <= F32(128) and abs(negative) >= F32(2.0**-8))


_RELU_ACTIVATION = {"RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}


@register(*_RELU_ACTIVATION)
def relu(call: Call, x: Array) -> Array:
    """Rescaling and clamp; equation (23), the builtin kernel in both roundings."""
    require_int8(call)
    a, y = call.input, call.output
    scaled = multiply(CODES - a.zero_point, *quantize_multiplier(a.scale / y.scale)) + y.zero_point
    low, high = activation_range(_RELU_ACTIVATION[call.op.name], y.scale, y.zero_point, "builtin", -128, 127)
    return look_up(np.clip(scaled, low, high).astype(np.int8), x)


def _saturate16(x: Array) -> Array:
    return np.clip(x, -(1 << 15), (1 << 15) - 1)


def _multiplier16(real: F32) -> tuple[int, int]:
    """(m, e): real ~ m * 2^(e - 15), m the 16-bit rounding of the 31-bit multiplier."""
    m, exponent = quantize_multiplier(real)
    return min((int(m) + (1 << 15)) >> 16, (1 << 15) - 1), int(exponent)


def _high16(a: Array, b: int) -> Array:
    """a * b / 2^15 to nearest, ties up (the 16-bit doubling high product)."""
    return (a * b + (1 << 14)) >> 15


@register("HARD_SWISH")
def hard_swish(call: Call, x: Array) -> Array:
    """x * relu6(x + 3) / 6 in 16-bit fixed point; equation (24), the builtin kernel in both roundings."""
    require_int8(call)
    a, y = call.input, call.output
    fine = F32(1 / 128) * a.scale
    m_out, e_out = _multiplier16(fine / y.scale)
    m_gate, e_gate = _multiplier16(fine / F32(3 / 32768))
    centred = (CODES - a.zero_point) << 7
    value = _high16(centred, m_out)
    gate = _saturate16(centred << max(e_gate - 1, 0))
    gate = _high16(gate, m_gate)
    gate = _saturate16(gate << (1 if e_gate > 0 else 0))
    gate = rounding_shift(gate, max(-e_gate, 0))
    gate = (gate + (1 << 15)) >> 1
    product = gate * value
    high = np.sign(product) * (np.abs(product) >> 15)  # truncating: rounding here would bias the mean
    codes = rounding_shift(high, -e_out) + y.zero_point
    return look_up(np.clip(codes, -128, 127).astype(np.int8), x)
