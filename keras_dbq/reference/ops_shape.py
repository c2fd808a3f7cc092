"""Operators that move codes, and the shape arithmetic around reshapes with a dynamic batch."""

from __future__ import annotations

import math

import numpy as np

from keras_dbq.reference.ops import Call, register, require_same_grid

Array = np.ndarray


def _ints(values: Array) -> list[int]:
    return [int(v) for v in np.ravel(values)]


@register("RESHAPE")
def reshape(call: Call, x: Array, shape: Array | None = None) -> Array:
    """New shape from the second input or the options.

    A file converted for one picture says "1" (or its batch) first where it means "all of them": the leading size is
    scaled by the batch when the sizes do not agree otherwise.
    """
    wanted = _ints(shape) if shape is not None else _ints(call.op.option("newShape", None))
    if -1 not in wanted and math.prod(wanted) * call.batch_factor == x.size and wanted:
        wanted = [wanted[0] * call.batch_factor, *wanted[1:]]
    return x.reshape(wanted)


@register("SQUEEZE")
def squeeze(call: Call, x: Array) -> Array:
    """Drops the axes named in the options, or every axis of size 1 but the batch's."""
    dims = call.op.option("squeezeDims", None)
    if dims is None or len(dims) == 0:
        dims = [i for i, size in enumerate(call.input.shape) if size == 1 and not (i == 0 and x.shape[0] != 1)]
    return np.squeeze(x, tuple(_ints(np.asarray(dims))))


@register("EXPAND_DIMS")
def expand_dims(call: Call, x: Array, axis: Array) -> Array:
    """A new axis of size 1."""
    return np.expand_dims(x, _ints(axis)[0])


@register("CONCATENATION")
def concatenation(call: Call, *parts: Array) -> Array:
    """Joins int8 tensors of one scale and zero point (the runtime refuses others)."""
    for tensor in call.inputs:
        assert tensor is not None
        require_same_grid(call, tensor)
    return np.concatenate(parts, axis=call.op.option("axis"))


@register("TRANSPOSE")
def transpose(call: Call, x: Array, permutation: Array) -> Array:
    return np.ascontiguousarray(np.transpose(x, _ints(permutation)))


@register("SPLIT")
def split(call: Call, axis: Array, x: Array) -> list[Array]:
    """Equal parts along an axis (the first input)."""
    return [np.ascontiguousarray(part) for part in np.split(x, call.op.option("numSplits"), axis=_ints(axis)[0])]


@register("SPLIT_V")
def split_v(call: Call, x: Array, sizes: Array, axis: Array) -> list[Array]:
    """Parts of given sizes along an axis; one size may be -1."""
    along, parts = _ints(axis)[0], _ints(sizes)
    parts = [x.shape[along] - sum(s for s in parts if s >= 0) if s < 0 else s for s in parts]
    return [np.ascontiguousarray(part) for part in np.split(x, np.cumsum(parts)[:-1], axis=along)]


@register("SLICE")
def slice_(call: Call, x: Array, begin: Array, size: Array) -> Array:
    """x[begin : begin + size], -1 for "to the end". A whole batch in the file means the whole batch given."""
    index = []
    for i, (first, count) in enumerate(zip(_ints(begin), _ints(size), strict=True)):
        whole_batch = i == 0 and first == 0 and call.batch_factor > 1 and count == call.input.shape[0]
        index.append(slice(first, None if count < 0 or whole_batch else first + count))
    return np.array(x[tuple(index)], order="C")


@register("STRIDED_SLICE")
def strided_slice(call: Call, x: Array, begin: Array, end: Array, strides: Array) -> Array:
    """x[begin : end : stride] with TensorFlow's masks (ellipsis and new axes are not supported)."""
    option = call.op.option
    if option("ellipsisMask") or option("newAxisMask") or option("offset", False):
        raise ValueError("expected begin, end and shrink masks only, got an ellipsis mask, a new axis or an offset")
    index: list[slice | int] = []
    for i, (first, last, step) in enumerate(zip(_ints(begin), _ints(end), _ints(strides), strict=True)):
        if option("shrinkAxisMask") >> i & 1:
            index.append(first)
            continue
        whole_batch = i == 0 and first == 0 and step == 1 and call.batch_factor > 1 and last == call.input.shape[0]
        open_begin, open_end = option("beginMask") >> i & 1, option("endMask") >> i & 1 or whole_batch
        index.append(slice(None if open_begin else first, None if open_end else last, step))
    return np.array(x[tuple(index)], order="C")


@register("SPACE_TO_BATCH_ND")
def space_to_batch_nd(call: Call, x: Array, block: Array, paddings: Array) -> Array:
    """Pads height and width, and moves each block offset into the batch (the converter's dilated convolutions)."""
    bh, bw = _ints(block)
    fill = call.output.zero_point if call.quantized else 0
    pairs = [(0, 0), *(tuple(_ints(pair)) for pair in paddings), (0, 0)]
    x = np.pad(x, pairs, constant_values=fill)
    n, h, w, c = x.shape
    x = x.reshape(n, h // bh, bh, w // bw, bw, c).transpose(2, 4, 0, 1, 3, 5)
    return x.reshape(bh * bw * n, h // bh, w // bw, c)


@register("BATCH_TO_SPACE_ND")
def batch_to_space_nd(call: Call, x: Array, block: Array, crops: Array) -> Array:
    """The inverse of SPACE_TO_BATCH_ND, with crops instead of padding."""
    bh, bw = _ints(block)
    n, h, w, c = x.shape
    x = x.reshape(bh, bw, n // (bh * bw), h, w, c).transpose(2, 3, 0, 4, 1, 5)
    x = x.reshape(n // (bh * bw), h * bh, w * bw, c)
    (top, bottom), (left, right) = (tuple(_ints(pair)) for pair in crops)
    return np.ascontiguousarray(x[:, top : x.shape[1] - bottom, left : x.shape[2] - right])


@register("GATHER")
def gather(call: Call, x: Array, indices: Array) -> Array:
    """x indexed along an axis (channel shuffles export as this)."""
    if call.op.option("batchDims"):
        raise ValueError(f"expected batch_dims 0, got {call.op.option('batchDims')}")
    return np.take(x, indices, axis=call.op.option("axis"))


@register("CAST")
def cast(call: Call, x: Array) -> Array:
    """Another type: what does not fit is cut to the bits that do, as in C (codes as indices of a table)."""
    return x.astype(call.output.dtype)


@register("DEPTH_TO_SPACE")
def depth_to_space(call: Call, x: Array) -> Array:
    """Channels to blocks of height and width: y[n, h b + i, w b + j, c] = x[n, h, w, (i b + j) C + c]."""
    require_same_grid(call, call.input)
    b = call.op.option("blockSize")
    n, h, w, c = x.shape
    y = x.reshape(n, h, w, b, b, c // b**2).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(y).reshape(n, h * b, w * b, c // b**2)


@register("SPACE_TO_DEPTH")
def space_to_depth(call: Call, x: Array) -> Array:
    """The inverse of DEPTH_TO_SPACE."""
    require_same_grid(call, call.input)
    b = call.op.option("blockSize")
    n, h, w, c = x.shape
    y = x.reshape(n, h // b, b, w // b, b, c).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(y).reshape(n, h // b, w // b, c * b**2)


@register("TILE")
def tile(call: Call, x: Array, multiples: Array) -> Array:
    """x repeated along each axis."""
    return np.tile(x, _ints(multiples))


@register("REVERSE_V2")
def reverse(call: Call, x: Array, axes: Array) -> Array:
    """x backwards along axes."""
    return np.ascontiguousarray(np.flip(x, tuple(_ints(axes))))


@register("UNPACK")
def unpack(call: Call, x: Array) -> list[Array]:
    """The parts along an axis, which goes."""
    axis = call.op.option("axis")
    return [np.ascontiguousarray(part) for part in np.moveaxis(x, axis, 0)]


@register("SHAPE")
def shape_of(call: Call, x: Array) -> Array:
    """The shape of x, as an integer tensor."""
    return np.array(x.shape, call.output.dtype)


@register("PACK")
def pack(call: Call, *parts: Array) -> Array:
    """Tensors stacked along a new axis."""
    return np.stack(parts, axis=call.op.option("axis"))
