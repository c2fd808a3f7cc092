"""Convolutions and fully connected layers: an exact integer accumulator by BLAS, then requantization.

source: int8 arithmetic as in the TFLite 8-bit specification: weights symmetric, activations affine, int32 bias.
"""

from __future__ import annotations

import numpy as np

from keras_dbq.reference import packed
from keras_dbq.reference.ops import PREPARE, Call, register, require_int8
from keras_dbq.reference.rounding import (
    activation_range,
    multiply,
    quantize_multiplier,
    requantize_float,
    vector_lanes,
)
from keras_dbq.reference.tflite_file import Tensor

Array = np.ndarray

# choice: floats held at once by one im2col matrix or one picture block (32 MiB of float32); blocks fit in cache.
_BLOCK_ELEMENTS = 1 << 23
# choice: more padding is a damaged file, and its memory would be taken.
_LARGEST_PADDING = 1 << 10


def same_or_valid(size: int, kernel: int, stride: int, dilation: int, valid: bool) -> tuple[int, int, int]:
    """(output size, padding before, padding after) along one axis; equation (1).

    VALID: out = ceil((size - reach + 1) / stride); SAME: out = ceil(size / stride), and the padding that this needs is
    split in halves, the odd one after. reach = (kernel - 1) * dilation + 1.
    """
    reach = (kernel - 1) * dilation + 1
    if valid:
        return -(-(size - reach + 1) // stride), 0, 0
    out = -(-size // stride)
    total = max((out - 1) * stride + reach - size, 0)
    return out, total // 2, total - total // 2


class Geometry:
    """Kernel, strides, dilations and the padding of one spatial window over an input [N, H, W, C]."""

    def __init__(
        self, x: Array, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], valid: bool
    ):
        self.kernel, self.stride, self.dilation = kernel, stride, dilation
        self.out_h, *pad_h = same_or_valid(x.shape[1], kernel[0], stride[0], dilation[0], valid)
        self.out_w, *pad_w = same_or_valid(x.shape[2], kernel[1], stride[1], dilation[1], valid)
        self.pad = ((0, 0), tuple(pad_h), tuple(pad_w), (0, 0))
        if self.out_h < 1 or self.out_w < 1:
            raise ValueError(
                f"kernel {kernel} does not fit into an input of {x.shape[1]}x{x.shape[2]} with VALID padding"
            )
        if max(map(sum, self.pad)) > _LARGEST_PADDING:
            raise ValueError(f"expected at most {_LARGEST_PADDING} pixels of padding, got {self.pad}")

    def tap(self, padded: Array, i: int, j: int) -> Array:
        """View [N, out_h, out_w, C] of what kernel position (i, j) sees of the padded input."""
        top, left = i * self.dilation[0], j * self.dilation[1]
        bottom, right = top + (self.out_h - 1) * self.stride[0] + 1, left + (self.out_w - 1) * self.stride[1] + 1
        return padded[:, top : bottom : self.stride[0], left : right : self.stride[1]]

    @property
    def pointwise(self) -> bool:
        return self.kernel == (1, 1) and self.stride == (1, 1)


def _exact_dtype(absolute_sum: Array, zero_point: int, bias: Array) -> type:
    """float32 where every partial sum stays below 2^24, so that BLAS is exact in any order; else float64 (2^53)."""
    largest_x = max(127 - zero_point, 128 + zero_point)
    bound = absolute_sum.astype(np.float64) * largest_x + np.abs(bias.astype(np.float64))
    return np.float32 if bound.max(initial=0) < 1 << 24 else np.float64


def _blocks(count: int, elements_each: int) -> list[slice]:
    step = max(1, _BLOCK_ELEMENTS // max(elements_each, 1))
    return [slice(i, min(i + step, count)) for i in range(0, count, step)]


def conv2d_accumulate(
    x: Array, w: Array, zero_point: int, bias: Array, geometry: Geometry, finish: packed.Finish
) -> Array:
    """finish(bias[m] + sum over the window of (x - zero_point) * w), int8 [N, out_h, out_w, M]; equation (0).

    Args:
      x: int8 [N, H, W, C]. w: int8 [M, kh, kw, C / groups]. bias: int32 [M].
      finish: accumulator block (float32 or float64 holding exact integers, channels last) -> int8 block.
    """
    m, kh, kw, c = w.shape
    groups = x.shape[3] // c
    if c * groups != x.shape[3] or m % groups:
        raise ValueError(
            f"expected input channels a multiple of the filter's {c}, got {x.shape[3]} channels, {m} filters"
        )
    flat = w.reshape(m, kh * kw * c)
    dtype = _exact_dtype(np.abs(flat.astype(np.int64)).sum(1), zero_point, bias)
    matrix: Array = flat.T.astype(dtype)
    bias = bias.astype(dtype)
    out = np.empty((x.shape[0], geometry.out_h, geometry.out_w, m), np.int8)
    for block in _blocks(x.shape[0], geometry.out_h * geometry.out_w * kh * kw * x.shape[3]):
        values = np.pad(x[block].astype(dtype) - dtype(zero_point), geometry.pad)
        accumulator = np.empty((*values.shape[:1], *out.shape[1:]), dtype)
        for g in range(groups):
            part, channels = values[..., g * c : (g + 1) * c], slice(g * m // groups, (g + 1) * m // groups)
            columns = part if geometry.pointwise else _im2col(part, geometry)
            product = columns.reshape(-1, matrix.shape[0]) @ matrix[:, channels]
            accumulator[..., channels] = product.reshape(*accumulator.shape[:3], -1)
        accumulator += bias
        out[block] = finish(accumulator)
    return out


def _im2col(padded: Array, geometry: Geometry) -> Array:
    """[N, out_h, out_w, kh * kw * C], the window of each output pixel in the order of an OHWI filter."""
    taps = [geometry.tap(padded, i, j) for i in range(geometry.kernel[0]) for j in range(geometry.kernel[1])]
    return np.concatenate(taps, axis=3)


def depthwise_accumulate(
    x: Array, w: Array, zero_point: int, bias: Array, geometry: Geometry, finish: packed.Finish
) -> Array:
    """As `conv2d_accumulate`, each input channel c alone giving outputs c * multiplier + k. w: int8 [1, kh, kw, M]."""
    _, kh, kw, m = w.shape
    if m % x.shape[3]:
        raise ValueError(f"expected a multiple of the {x.shape[3]} input channels as depthwise filters, got {m}")
    dtype = _exact_dtype(np.abs(w.astype(np.int64)).sum((0, 1, 2)), zero_point, bias)
    taps, bias = w[0].astype(dtype), bias.astype(dtype)
    out = np.empty((x.shape[0], geometry.out_h, geometry.out_w, m), np.int8)
    for block in _blocks(x.shape[0], 8 * x.shape[1] * x.shape[2] * m):
        values = np.pad(x[block].astype(dtype) - dtype(zero_point), geometry.pad)
        values = np.repeat(values, m // x.shape[3], axis=3)
        accumulator = np.broadcast_to(bias, (values.shape[0], *out.shape[1:])).copy()
        for i in range(kh):
            for j in range(kw):
                accumulator += geometry.tap(values, i, j) * taps[i, j]
        out[block] = finish(accumulator)
    return out


def _finisher(call: Call, kernel_scale: Array, channels: int, ruy: bool, per_channel: bool = True) -> packed.Finish:
    """Accumulator -> int8 codes, by the call's rounding: equations (2), (4) for xnnpack; (5), (6), (7) for builtin."""
    x, y = call.input, call.output
    low, high = activation_range(
        call.op.option("fusedActivationFunction"), y.scale, y.zero_point, call.rounding, -128, 127
    )
    if call.rounding == "xnnpack":
        multiplier = np.float32(x.scale) * kernel_scale / np.float32(y.scale)  # in this order, each step in float32
        return lambda acc: requantize_float(_checked(acc), multiplier, y.zero_point, low, high)
    if per_channel:
        real = np.float64(x.scale) * np.broadcast_to(kernel_scale, channels).astype(np.float64) / np.float64(y.scale)
    else:  # FULLY_CONNECTED with one scale: the product is rounded to float32 first
        real = (np.float32(x.scale) * kernel_scale).astype(np.float64) / np.float64(y.scale)
    m, exponent = quantize_multiplier(real)
    # ruy rounds ties up everywhere; the depthwise kernel in its vectors of 8 channels.
    half_up = True if ruy else vector_lanes(m.size, 8)

    def finish(accumulator: Array) -> Array:
        scaled = multiply(_checked(accumulator).astype(np.int64), m, exponent, half_up)
        return np.clip(scaled + y.zero_point, low, high).astype(np.int8)

    return finish


def _checked(accumulator: Array) -> Array:
    """The accumulator, once it is sure that int32 hardware holds it too (float32 blocks do by construction)."""
    if accumulator.dtype == np.float64 and np.abs(accumulator).max(initial=0) > 2**31 - 1:
        raise ValueError("the int32 accumulator overflows; expected weights and bias that keep it below 2^31")
    return accumulator


def _bias(bias: Array | None, channels: int) -> Array:
    return np.zeros(channels, np.int32) if bias is None else bias


def _spatial(call: Call, x: Array, kernel: tuple[int, int]) -> Geometry:
    stride = (call.op.option("strideH"), call.op.option("strideW"))
    dilation = (call.op.option("dilationHFactor"), call.op.option("dilationWFactor"))
    return Geometry(x, kernel, stride, dilation, valid=call.op.option("padding") == 1)


def _weight_scale(weights: Tensor | None, axis: int) -> Array:
    """float32 scales of a weight tensor, [1] or one per output channel."""
    assert weights is not None
    quantization = weights.quantization
    if quantization is None or quantization.zero_point.any() or weights.dtype != np.int8:
        raise ValueError(
            f"weights {weights.name!r}: expected int8 with scales and zero points 0; export a full-integer file"
        )
    if quantization.scale.size not in (1, weights.shape[axis]):
        raise ValueError(
            f"weights {weights.name!r}: expected 1 or {weights.shape[axis]} scales, got {quantization.scale.size}"
        )
    return quantization.scale


@register("CONV_2D")
def conv_2d(call: Call, x: Array, w: Array, bias: Array | None = None) -> Array:
    """Convolution; equation (0). x: int8 [N, H, W, C], w: int8 OHWI, bias: int32 [M] or absent."""
    require_int8(call)
    geometry = _spatial(call, x, w.shape[1:3])
    finish = _finisher(call, _weight_scale(call.inputs[1], 0), w.shape[0], ruy=True)
    return conv2d_accumulate(x, w, call.input.zero_point, _bias(bias, w.shape[0]), geometry, finish)


@register("DEPTHWISE_CONV_2D")
def depthwise_conv_2d(call: Call, x: Array, w: Array, bias: Array | None = None) -> Array:
    """Depthwise convolution; equation (0). x: int8 [N, H, W, C], w: int8 [1, kh, kw, C * multiplier], bias: int32."""
    require_int8(call)
    geometry = _spatial(call, x, w.shape[1:3])
    finish = _finisher(call, _weight_scale(call.inputs[1], 3), w.shape[3], ruy=False)
    return depthwise_accumulate(x, w, call.input.zero_point, _bias(bias, w.shape[3]), geometry, finish)


@register("FULLY_CONNECTED")
def fully_connected(call: Call, x: Array, w: Array, bias: Array | None = None) -> Array:
    """y = bias + (x - zero_point) w^T; equation (0). x: int8, size divisible by K; w: int8 [M, K]; bias: int32 [M]."""
    require_int8(call)
    scale = _weight_scale(call.inputs[1], 0)
    finish = _finisher(call, scale, w.shape[0], ruy=True, per_channel=scale.size > 1)
    keep = bool(call.op.option("keepNumDims", False))
    return _dense(x, w, call.input.zero_point, _bias(bias, w.shape[0]), keep, finish)


def _dense(x: Array, w: Array, zero_point: int, bias: Array, keep_num_dims: bool, finish: packed.Finish) -> Array:
    """A fully connected layer as a pointwise convolution of rows of K; [rows, M], or x's shape with M last."""
    m, k = w.shape
    if x.size % k or (keep_num_dims and x.shape[-1] != k):
        where = "last axis is" if keep_num_dims else "size is divisible by"
        raise ValueError(f"expected an input whose {where} the {k} input features, got shape {x.shape}")
    rows = x.reshape(-1, 1, 1, k)
    geometry = Geometry(rows, (1, 1), (1, 1), (1, 1), valid=True)
    y = conv2d_accumulate(rows, w.reshape(m, 1, 1, k), zero_point, bias, geometry, finish)
    return y.reshape((*x.shape[:-1], m) if keep_num_dims else (-1, m))


@register(*packed.OPERATORS)
def packed_layer(call: Call, x: Array, *_: Array) -> Array:
    """The three packed operators; docs/packing.md. Always in XNNPACK's rounding, whatever the engine's."""
    layer: packed.PackedLayer = call.prepared
    finish = layer.finisher()
    if call.op.name == "DbqFullyConnected":
        return _dense(x, layer.weights, layer.input_zero_point, layer.bias, layer.keep_num_dims, finish)
    if x.ndim != 4 or x.shape[3] != layer.input_channels:
        raise ValueError(f"expected an input [N, H, W, {layer.input_channels}], got {x.shape}")
    geometry = Geometry(x, layer.kernel, layer.stride, layer.dilation, layer.valid)
    accumulate = conv2d_accumulate if call.op.name == "DbqConv2D" else depthwise_accumulate
    return accumulate(x, layer.weights, layer.input_zero_point, layer.bias, geometry, finish)


PREPARE.update({name: packed.decode for name in packed.OPERATORS})
