"""Operations of Keras 3 that move, select and join values, and pooling: a table of functions for `operations`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_dbq.compat import SlicingOpLambda, keras, tf
from keras_dbq.keras3.activations import apply, is_tensor
from keras_dbq.keras3.missing import NoCounterpart

L = keras.layers
_METHODS = ("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5")


def reshape(operation: Any, x: Any) -> Any:
    """A Reshape layer where the batch stays the first axis, else tf.reshape."""
    given = operation.newshape if isinstance(operation.newshape, (list, tuple)) else (operation.newshape,)
    first, *rest = (-1 if size is None else int(size) for size in given)
    known = None not in x.shape[1:] and -1 not in rest
    same_size = known and np.prod(rest) == np.prod(x.shape[1:])
    if rest and (first == -1 or first == x.shape[0]) and same_size:
        return L.Reshape(rest, name=operation.name)(x)
    if [first, *rest].count(-1) > 1:
        raise NoCounterpart(f"reshape to {operation.newshape} with more than one open size; give the inputs a size")
    return apply(tf.reshape, operation.name, x, [first, *rest])


def ravel(operation: Any, x: Any) -> Any:
    """One axis."""
    return apply(tf.reshape, operation.name, x, [-1])


def transpose(operation: Any, x: Any) -> Any:
    """A Permute layer where the batch stays the first axis, else tf.transpose."""
    rank = len(x.shape)
    return _permuted(operation, x, [a % rank for a in operation.axes or range(rank - 1, -1, -1)])


def swap_axes(operation: Any, x: Any) -> Any:
    """Two axes change places."""
    order = list(range(len(x.shape)))
    order[operation.axis1], order[operation.axis2] = order[operation.axis2], order[operation.axis1]
    return _permuted(operation, x, order)


def move_axis(operation: Any, x: Any) -> Any:
    """source: numpy.moveaxis"""
    rank = len(x.shape)
    source, destination = ([a % rank for a in np.atleast_1d(v)] for v in (operation.source, operation.destination))
    order = [axis for axis in range(rank) if axis not in source]
    for target, axis in sorted(zip(destination, source, strict=True)):
        order.insert(target, axis)
    return _permuted(operation, x, order)


def _permuted(operation: Any, x: Any, order: list[int]) -> Any:
    if order[0] == 0 and len(order) > 1:
        return L.Permute(order[1:], name=operation.name)(x)
    return apply(tf.transpose, operation.name, x, order)


def concatenate(operation: Any, xs: Any) -> Any:
    """Along any axis."""
    if len({tf.as_dtype(x.dtype) for x in xs}) > 1:
        raise NoCounterpart("tensors of several dtypes; cast them with keras.ops.cast")
    axis, rank = operation.axis, len(xs[0].shape)
    constant = not all(is_tensor(x) for x in xs)
    if axis % rank == 0 or constant or len(xs) < 2:
        return apply(tf.concat, operation.name, list(xs), axis=axis)
    return L.Concatenate(axis=axis, name=operation.name)(list(xs))


def stack(operation: Any, xs: Any) -> Any:
    """Along a new axis."""
    return apply(tf.stack, operation.name, list(xs), axis=operation.axis)


def split(operation: Any, x: Any) -> Any:
    """Into equal parts, or at indices."""
    where, axis = operation.indices_or_sections, operation.axis
    if isinstance(where, int):
        return apply(tf.split, operation.name, x, where, axis=axis)
    if x.shape[axis] is None:
        raise NoCounterpart("split at indices along an open size; give the inputs a size")
    return apply(tf.split, operation.name, x, np.diff([0, *where, x.shape[axis]]).tolist(), axis=axis)


def unstack(operation: Any, x: Any) -> Any:
    """One tensor per index."""
    return apply(tf.unstack, operation.name, x, num=operation.num, axis=operation.axis)


def expand_dims(operation: Any, x: Any) -> Any:
    """One new axis."""
    if not isinstance(operation.axis, int):
        raise NoCounterpart("expand_dims of several axes; use one after the other")
    return apply(tf.expand_dims, operation.name, x, axis=operation.axis)


def squeeze(operation: Any, x: Any) -> Any:
    """Axes of size 1 left out."""
    axis = operation.axis
    if axis is None:
        raise NoCounterpart("squeeze without an axis depends on the batch; name the axes")
    return apply(tf.squeeze, operation.name, x, axis=[axis] if isinstance(axis, int) else list(axis))


def pad(operation: Any, x: Any, constant_values: Any = None) -> Any:
    """A ZeroPadding2D layer where zeros go around a map, else tf.pad."""
    rank, width = len(x.shape), operation.pad_width
    pairs = np.broadcast_to(np.asarray(width), (rank, 2)).tolist()
    if rank == 4 and operation.mode == "constant" and not constant_values and not any(pairs[0] + pairs[3]):
        return L.ZeroPadding2D(pairs[1:3], data_format="channels_last", name=operation.name)(x)
    if operation.mode not in ("constant", "reflect", "symmetric"):
        raise NoCounterpart(f"pad with mode {operation.mode!r}; use constant, reflect or symmetric")
    return apply(tf.pad, operation.name, x, pairs, operation.mode.upper(), constant_values or 0)


def get_item(operation: Any, x: Any, key: Any) -> Any:
    """x[key] with slices, integers, None and ... in the key."""
    parts = key if isinstance(key, tuple) else (key,)
    simple = all(isinstance(p, (slice, int, np.integer)) or p is None or p is Ellipsis for p in parts)
    if not simple:
        raise NoCounterpart("indices that are tensors or lists; use keras.ops.take along an axis")
    return SlicingOpLambda(tf.__operators__.getitem, name=operation.name)(
        x, _as_tf_keras_writes_it(parts, len(x.shape))
    )


def _as_tf_keras_writes_it(parts: tuple[Any, ...], rank: int) -> tuple[Any, ...]:
    """Slices as dicts, which can be saved, and slices in place of `...`, which cannot."""
    if Ellipsis in parts:
        where, taken = parts.index(Ellipsis), sum(part is not None and part is not Ellipsis for part in parts)
        parts = (*parts[:where], *[slice(None)] * (rank - taken), *parts[where + 1 :])
    as_dict = [{"start": p.start, "stop": p.stop, "step": p.step} if isinstance(p, slice) else p for p in parts]
    return tuple(int(p) if isinstance(p, np.integer) else p for p in as_dict)


def take(operation: Any, x: Any, indices: Any) -> Any:
    """Along an axis, at constant indices."""
    constant = isinstance(indices, (int, list, tuple, np.ndarray))
    if operation.axis is None or not constant or np.any(np.asarray(indices) < 0):
        raise NoCounterpart("take without an axis, or at indices that are negative or tensors; use constant ones >= 0")
    return apply(tf.gather, operation.name, x, np.asarray(indices), axis=operation.axis)


def tile(operation: Any, x: Any) -> Any:
    """Repeated as a whole."""
    repeats = np.atleast_1d(operation.repeats).tolist()
    if len(repeats) > len(x.shape):
        raise NoCounterpart("tile to more axes; add them with keras.ops.expand_dims")
    return apply(tf.tile, operation.name, x, [1] * (len(x.shape) - len(repeats)) + repeats)


def repeat(operation: Any, x: Any) -> Any:
    """Each value several times, along an axis."""
    if operation.axis is None or not isinstance(operation.repeats, int):
        raise NoCounterpart("repeat without an axis, or a number of times that varies; name the axis and one number")
    return apply(tf.repeat, operation.name, x, operation.repeats, axis=operation.axis)


def flip(operation: Any, x: Any) -> Any:
    """The other way around."""
    axis = operation.axis
    axes = list(range(len(x.shape))) if axis is None else [axis] if isinstance(axis, int) else list(axis)
    return apply(tf.reverse, operation.name, x, axes)


def roll(operation: Any, x: Any) -> Any:
    """Along an axis, what leaves on one side comes in on the other."""
    if operation.axis is None:
        raise NoCounterpart("roll without an axis; name the axis")
    return apply(tf.roll, operation.name, x, operation.shift, operation.axis)


def arg_max(operation: Any, x: Any) -> Any:
    """Index of the largest value along an axis, int32."""
    if operation.axis is None or operation.keepdims:
        raise NoCounterpart("argmax without an axis, or with keepdims; name the axis")
    return apply(tf.argmax, operation.name, x, axis=operation.axis, output_type=tf.int32)


def depth_to_space(operation: Any, x: Any) -> Any:
    """source: tf.nn.depth_to_space"""
    _channels_last(operation)
    return apply(tf.nn.depth_to_space, operation.name, x, operation.block_size)


def space_to_depth(operation: Any, x: Any) -> Any:
    """source: tf.nn.space_to_depth"""
    _channels_last(operation)
    return apply(tf.nn.space_to_depth, operation.name, x, operation.block_size)


def _channels_last(operation: Any) -> None:
    if operation.data_format not in (None, "channels_last"):
        raise NoCounterpart(f"its data_format is {operation.data_format}; use channels_last")


def resize(operation: Any, x: Any) -> Any:
    """A Resizing layer."""
    _channels_last(operation)
    plain = not (operation.antialias or operation.crop_to_aspect_ratio or operation.pad_to_aspect_ratio)
    if not plain or operation.interpolation not in _METHODS:
        raise NoCounterpart(f"resize with options beyond the interpolations {', '.join(_METHODS)}; leave them out")
    return L.Resizing(*operation.size, interpolation=operation.interpolation, name=operation.name)(x)


def _pooling(layer: type) -> Callable[..., Any]:
    def pool(operation: Any, x: Any) -> Any:
        _channels_last(operation)
        if len(x.shape) != 4:
            raise NoCounterpart(f"pooling of a tensor of {len(x.shape)} axes; use a layer")
        return layer(operation.pool_size, operation.strides, operation.padding, name=operation.name)(x)

    return pool


TABLE: dict[str, Callable[..., Any]] = {
    "Argmax": arg_max,
    "AveragePool": _pooling(L.AveragePooling2D),
    "Concatenate": concatenate,
    "DepthToSpace": depth_to_space,
    "ExpandDims": expand_dims,
    "Flip": flip,
    "GetItem": get_item,
    "MaxPool": _pooling(L.MaxPooling2D),
    "Moveaxis": move_axis,
    "Pad": pad,
    "Ravel": ravel,
    "Repeat": repeat,
    "Reshape": reshape,
    "Resize": resize,
    "Roll": roll,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Stack": stack,
    "Swapaxes": swap_axes,
    "Take": take,
    "Tile": tile,
    "Transpose": transpose,
    "Unstack": unstack,
}
