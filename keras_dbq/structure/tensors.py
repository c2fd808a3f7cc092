"""Tensors and buffers of a file: types, shapes, sizes, quantization. Each function raises a one-line ValueError."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_dbq.structure.reader import Place
from keras_dbq.structure.schema import BITS, TYPES

# XNNPACK ends the process over a scale below the smallest normal float32.
_SMALLEST_SCALE, _LARGEST_SCALE = 2.0**-126, 2.0**128 - 2.0**104
# Codes that a zero point may be; other types are not looked at.
_CODES = {"INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-32768, 32767), "INT32": (-(2**31), 2**31 - 1)}


def damaged(what: str, expected: object, got: object) -> ValueError:
    """The one-line error of this room."""
    return ValueError(f"{what}: expected {expected}, got {got}; the file is damaged, export it again")


def check_buffers(buffers: list[Any], size: int) -> None:
    """Gives every buffer `place`, where its bytes are (None: it has none); large files keep them behind the tables."""
    for index, buffer in enumerate(buffers):
        place = buffer.data
        if place is None and buffer.offset > 1:
            if buffer.offset + buffer.size > size:
                raise damaged(f"buffer {index}", f"bytes inside of the {size}", f"{buffer.offset} + {buffer.size}")
            place = Place(buffer.offset, buffer.size)
        buffer.place = place if place is not None and place.length else None


def check_tensor(tensor: Any, index: int, buffers: list[Any]) -> None:
    """One tensor by itself; gives it `index`, `label`, `type_name`, `place` (of a constant's bytes) and a shape."""
    tensor.index, tensor.label = index, f"tensor {index} {tensor.name or ''!r}"
    if tensor.type not in TYPES:
        raise damaged(tensor.label, f"a type below {len(TYPES)}", tensor.type)
    tensor.type_name = TYPES[tensor.type]
    tensor.shape = tensor.shape or ()
    if any(size < 0 for size in tensor.shape):
        raise damaged(tensor.label, "sizes of at least 0", tensor.shape)
    if tensor.sparsity is not None or tensor.external_buffer:
        raise damaged(tensor.label, "plain values in this file", "sparse or external ones")
    if tensor.buffer >= len(buffers):
        raise damaged(tensor.label, f"a buffer below {len(buffers)}", tensor.buffer)
    _check_signature(tensor)
    _check_bytes(tensor, buffers[tensor.buffer].place if tensor.buffer else None)
    if tensor.quantization is not None:
        _check_quantization(tensor)


def tensor_bytes(type_name: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor of known size; 0 for types without one."""
    return -(-math.prod(shape) * BITS.get(type_name, 0) // 8)


def scales_of(tensor: Any) -> Any:
    """Its scales; empty where it is not quantized."""
    return () if tensor.quantization is None or tensor.quantization.scale is None else tensor.quantization.scale


def _check_signature(tensor: Any) -> None:
    """The shape signature says of every size what it is, or -1 where it is open."""
    signature = tensor.signature
    if not signature:
        return
    fits = len(signature) == len(tensor.shape)
    if not fits or any(s not in (-1, size) for s, size in zip(signature, tensor.shape, strict=True)):
        raise damaged(tensor.label, f"a shape signature like the shape {tensor.shape}", signature)


def _check_bytes(tensor: Any, place: Place | None) -> None:
    """A constant's bytes fill its shape."""
    empty = 0 in tensor.shape and not tensor.is_variable
    tensor.constant, tensor.place = place is not None or empty, place
    if place is None or tensor.type_name not in BITS:
        return
    wanted = tensor_bytes(tensor.type_name, tensor.shape)
    if place.length != wanted:
        raise damaged(tensor.label, f"{wanted} bytes for {tensor.shape} {tensor.type_name}", place.length)


def _check_quantization(tensor: Any) -> None:
    """Scales finite and > 0: one, or one per channel along an axis of the shape, with a zero point for each."""
    q, count = tensor.quantization, len(scales_of(tensor))
    if not count:
        return
    low, high = _CODES.get(tensor.type_name, (-(2**63), 2**63 - 1))
    zero_points = () if q.zero_point is None else q.zero_point
    if not 0 <= q.axis < max(len(tensor.shape), 1):
        raise damaged(f"{tensor.label}, axis of its scales", f"one of {len(tensor.shape)} axes", q.axis)
    wanted = tensor.shape[q.axis] if tensor.shape else 1
    if q.details_type == 0 and count not in (1, wanted):
        raise damaged(tensor.label, f"1 or {wanted} scales", count)
    if len(zero_points) != count:
        raise damaged(tensor.label, f"{count} zero points", len(zero_points))
    wrong = _outside(q.scale, _SMALLEST_SCALE, _LARGEST_SCALE)
    if wrong is not None:
        raise damaged(tensor.label, "scales that are finite, > 0 and not subnormal", wrong)
    wrong = _outside(zero_points, low, high)
    if wrong is not None:
        raise damaged(tensor.label, f"zero points from {low} to {high}", wrong)


def _outside(values: Any, low: float, high: float) -> Any:
    """The first value that is not between the bounds (NaN is not), or None."""
    if isinstance(values, np.ndarray):
        inside = (values >= low) & (values <= high)
        return None if inside.all() else values[np.argmin(inside)]
    for value in values:
        if not low <= value <= high:
            return value
    return None
