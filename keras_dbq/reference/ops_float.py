"""Operators in float32: what stays in float of a network that was quantized with on_unsupported="skip".

choice: numpy's sums run in another order than the runtime's and its functions differ in the last bits, so these are
compared with a tolerance (`agrees`) and not bit for bit; what follows is computed from the runtime's own values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_dbq.reference.ops import Call
from keras_dbq.reference.ops_conv import Geometry, same_or_valid
from keras_dbq.reference.rounding import ACTIVATION_BOUNDS

Array = np.ndarray
# choice: of the largest value of the tensor. float32 sums of some thousand terms differ by about 1e-6 of it.
TOLERANCE = 1e-4
FLOAT_OPS: dict[str, Callable[..., Array]] = {}


def agrees(value: Array, other: Array) -> bool:
    """Whether a float tensor is another one, up to `TOLERANCE`."""
    if value.shape != other.shape:
        return False
    return bool(np.all(np.abs(value - other) <= TOLERANCE * np.abs(other).max(initial=0) + 1e-30))


def _register(*names: str) -> Callable[[Callable[..., Array]], Callable[..., Array]]:
    def add(handler: Callable[..., Array]) -> Callable[..., Array]:
        FLOAT_OPS.update(dict.fromkeys(names, handler))
        return handler

    return add


def _activated(call: Call, values: Array) -> Array:
    """The fused activation of the operator's options."""
    low, high = ACTIVATION_BOUNDS[call.op.option("fusedActivationFunction")]
    return np.clip(values, low, high) if low is not None else values


_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "DIV": np.divide,
}
_BINARY_PLAIN: dict[str, Callable[[Array, Array], Array]] = {
    "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum,
    "POW": np.power,
    "SQUARED_DIFFERENCE": lambda a, b: (a - b) ** 2,
}
_UNARY: dict[str, Callable[[Array], Array]] = {
    "ABS": np.abs,
    "COS": np.cos,
    "ELU": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "EXP": np.exp,
    "HARD_SWISH": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "LOG": np.log,
    "LOGISTIC": lambda x: 1 / (1 + np.exp(-x)),
    "NEG": np.negative,
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "RSQRT": lambda x: 1 / np.sqrt(x),
    "SIN": np.sin,
    "SQRT": np.sqrt,
    "SQUARE": np.square,
    "TANH": np.tanh,
}


@_register(*_BINARY)
def binary(call: Call, a: Array, b: Array) -> Array:
    """Sums, products and quotients, with broadcasting and a fused activation."""
    return _activated(call, _BINARY[call.op.name](a, b))


@_register(*_BINARY_PLAIN)
def binary_plain(call: Call, a: Array, b: Array) -> Array:
    """What has no fused activation."""
    return _BINARY_PLAIN[call.op.name](a, b)


@_register(*_UNARY)
def unary(call: Call, x: Array) -> Array:
    """Functions of one number."""
    return _UNARY[call.op.name](x)


@_register("GELU")
def gelu(call: Call, x: Array) -> Array:
    """x times the normal distribution, or its approximation with tanh."""
    if call.op.option("approximate", False):
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x * 0.5 * (1 + np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2)))


@_register("LEAKY_RELU")
def leaky_relu(call: Call, x: Array) -> Array:
    """x where x >= 0, else alpha * x."""
    return np.where(x >= 0, x, call.op.option("alpha", 0.0) * x)


@_register("PRELU")
def prelu(call: Call, x: Array, alpha: Array) -> Array:
    """x where x >= 0, else alpha * x."""
    return np.where(x >= 0, x, alpha * x)


@_register("SOFTMAX", "LOG_SOFTMAX")
def softmax(call: Call, x: Array) -> Array:
    """Over the last axis."""
    shifted = (x - x.max(-1, keepdims=True)) * (call.op.option("beta", 1.0) if call.op.name == "SOFTMAX" else 1)
    logarithm = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return logarithm if call.op.name == "LOG_SOFTMAX" else np.exp(logarithm)


@_register("L2_NORMALIZATION")
def l2_normalization(call: Call, x: Array) -> Array:
    """x / |x| over the last axis."""
    return _activated(call, x / np.sqrt(np.maximum((x**2).sum(-1, keepdims=True), 1e-12)))


@_register("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD")
def reduce(call: Call, x: Array, axes: Array) -> Array:
    """Over axes."""
    functions: dict[str, Any] = {
        "MEAN": np.mean,
        "SUM": np.sum,
        "REDUCE_MAX": np.max,
        "REDUCE_MIN": np.min,
        "REDUCE_PROD": np.prod,
    }
    along = tuple({int(a) % x.ndim for a in np.ravel(axes)})
    return functions[call.op.name](x, axis=along, keepdims=bool(call.op.option("keepDims", False)))


@_register("FILL")
def fill(call: Call, shape: Array, value: Array) -> Array:
    """One value everywhere."""
    return np.full([int(size) for size in shape], np.ravel(value)[0])


@_register("CUMSUM")
def cumsum(call: Call, x: Array, axis: Array) -> Array:
    """Running sums; `reverse` from the end, `exclusive` without the value itself."""
    along = int(np.ravel(axis)[0])
    backwards = np.flip(x, along) if call.op.option("reverse", False) else x
    total = np.cumsum(backwards, axis=along)
    total = total - backwards if call.op.option("exclusive", False) else total
    return np.flip(total, along) if call.op.option("reverse", False) else total


@_register("BATCH_MATMUL")
def batch_matmul(call: Call, a: Array, b: Array) -> Array:
    """Products of matrices, of either the adjoint."""
    a = np.swapaxes(a, -1, -2) if call.op.option("adjX", False) else a
    return a @ (np.swapaxes(b, -1, -2) if call.op.option("adjY", False) else b)


@_register("FULLY_CONNECTED")
def fully_connected(call: Call, x: Array, w: Array, bias: Array | None = None) -> Array:
    """x @ w.T + bias; the rows are the last axis where `keepNumDims`."""
    y = x.reshape(-1, w.shape[1]) @ w.T + (0 if bias is None else bias)
    return _activated(call, y.reshape(*x.shape[:-1], -1) if call.op.option("keepNumDims", False) else y)


@_register("CONV_2D", "DEPTHWISE_CONV_2D")
def convolution(call: Call, x: Array, w: Array, bias: Array | None = None) -> Array:
    """Sum over the window; filters OHWI (groups where I is a part of the channels), or 1HWM of each channel's own."""
    option, depthwise = call.op.option, call.op.name == "DEPTHWISE_CONV_2D"
    stride, dilation = (option("strideH"), option("strideW")), (option("dilationHFactor"), option("dilationWFactor"))
    geometry = Geometry(x, w.shape[1:3], stride, dilation, valid=option("padding") == 1)
    padded = np.pad(x, geometry.pad)
    total: Array | float = 0.0 if bias is None else bias
    for i, j in np.ndindex(*w.shape[1:3]):
        seen = geometry.tap(padded, i, j)
        total = total + (_each_channel(seen, w[0, i, j]) if depthwise else _grouped(seen, w[:, i, j]))
    return _activated(call, np.asarray(total))


def _each_channel(x: Array, w: Array) -> Array:
    return np.repeat(x, len(w) // x.shape[-1], -1) * w


def _grouped(x: Array, w: Array) -> Array:
    groups = x.shape[-1] // w.shape[1]
    parts = zip(np.split(x, groups, -1), np.split(w, groups, 0), strict=True)
    return np.concatenate([part @ kernel.T for part, kernel in parts], -1)


@_register("CONV_3D")
def convolution_3d(call: Call, x: Array, w: Array, bias: Array | None = None) -> Array:
    """Sum over the window. x: [N, D, H, W, C]; filters [kd, kh, kw, C, M]."""
    option = call.op.option
    strides = [option("stride" + axis) for axis in "DHW"]
    dilations = [option(f"dilation{axis}Factor", 1) for axis in "DHW"]
    sizes = list(zip(x.shape[1:4], w.shape[:3], strides, dilations, strict=True))
    planned = [same_or_valid(*along, valid=option("padding") == 1) for along in sizes]
    if min(out for out, *_ in planned) < 1:
        raise ValueError(f"kernel {w.shape[:3]} does not fit into an input of {x.shape[1:4]} with VALID padding")
    padded = np.pad(x, ((0, 0), *((before, after) for _, before, after in planned), (0, 0)))
    total: Array | float = 0.0 if bias is None else bias
    for taps in np.ndindex(*w.shape[:3]):
        ends = zip(taps, planned, strides, dilations, strict=True)
        seen = tuple(slice(t * d, t * d + (out - 1) * s + 1, s) for t, (out, *_), s, d in ends)
        total = total + padded[(slice(None), *seen)] @ w[taps]
    return _activated(call, np.asarray(total))


@_register("AVERAGE_POOL_2D", "MAX_POOL_2D")
def pool(call: Call, x: Array) -> Array:
    """Mean or largest value of a window, inside of the picture."""
    option = call.op.option
    kernel, stride = (option("filterHeight"), option("filterWidth")), (option("strideH"), option("strideW"))
    geometry = Geometry(x, kernel, stride, (1, 1), valid=option("padding") == 1)
    padded = np.pad(x, geometry.pad, constant_values=np.nan)
    taps = np.stack([geometry.tap(padded, i, j) for i, j in np.ndindex(*kernel)])
    return _activated(call, np.nanmean(taps, 0) if call.op.name == "AVERAGE_POOL_2D" else np.nanmax(taps, 0))
