"""Rules of operators that move, cut, pad and join values: axes, sizes, indices inside of what they move."""

from __future__ import annotations

import math

from keras_dbq.structure.node import ANY, MANY, OPEN, Node, Shape, is_known, rule, total

# choice: padding of a million pixels is damage.
_LARGEST_PADDING = 1 << 20
_LARGEST_FACTOR = 1 << 16


def _same_type(node: Node, i: int = 0) -> None:
    for output in node.outputs:
        if output.type_name != node.type(i):
            raise node.fail(f"an output of {node.type(i)}", output.type_name)


@rule("RESHAPE", (1, 2))
def reshape(node: Node) -> list[Shape | None]:
    _same_type(node)
    x, wanted = node.shape(0), node.numbers(1) if node.has(1) else tuple(node.option("shape") or ())
    if wanted is None:
        return [None]
    if any(size < -1 for size in wanted) or wanted.count(-1) > 1:
        raise node.fail("sizes of at least 0, and at most one -1", wanted)
    count, rest = total(x), math.prod(size for size in wanted if size != -1)
    if count >= 0 and (count != rest if -1 not in wanted else rest == 0 or count % rest):
        raise node.fail(f"a shape of {count} values", wanted)
    batch = count < 0 and x[0] == OPEN and total(x[1:]) == rest  # then it is the batch that -1 stands for
    inferred = count // max(rest, 1) if count >= 0 else OPEN if batch else ANY
    return [tuple(inferred if size == -1 else size for size in wanted)]


@rule("SQUEEZE", (1, 1))
def squeeze(node: Node) -> list[Shape | None]:
    _same_type(node)
    x, axes = node.shape(0), node.option("axes", 0)
    if not axes:
        return [tuple(size for size in x if size != 1) if is_known(x) else None]
    dropped = {node.axis(axis, len(x)) for axis in axes}
    if any(x[axis] == 0 or x[axis] > 1 for axis in dropped):
        raise node.fail(f"axes of size 1 in {x}", axes)
    return [tuple(size for i, size in enumerate(x) if i not in dropped)]


@rule("EXPAND_DIMS", (2, 2))
def expand_dims(node: Node) -> list[Shape | None]:
    _same_type(node)
    x, values = node.shape(0), node.numbers(1)
    if values is None:
        return [None]
    if len(values) != 1:
        raise node.fail("one axis", values)
    axis = node.axis(values[0], len(x) + 1)
    return [(*x[:axis], 1, *x[axis:])]


@rule("CONCATENATION", (1, MANY))
def concatenation(node: Node) -> list[Shape | None]:
    shapes = [node.shape(i) for i in range(len(node.inputs))]
    if len({tensor.type_name for tensor in (*node.inputs, *node.outputs)}) > 1:
        raise node.fail("inputs and output of one type", [tensor.type_name for tensor in node.inputs])
    axis = node.axis(node.option("axis"), len(shapes[0]))
    first = [*shapes[0]]
    for shape in shapes[1:]:
        if len(shape) != len(first):
            raise node.fail("inputs of one rank", shapes)
        for i, size in enumerate(shape):
            if i == axis:
                first[i] = ANY if min(first[i], size) < 0 else first[i] + size
            elif min(size, first[i]) >= 0 and size != first[i]:
                raise node.fail(f"inputs that differ in axis {axis} only", shapes)
            else:
                first[i] = max(first[i], size)
    return [tuple(first)]


@rule("TRANSPOSE", (2, 2))
def transpose(node: Node) -> list[Shape | None]:
    _same_type(node)
    x, order = node.shape(0), node.numbers(1)
    if order is None:
        return [None]
    if sorted(node.axis(axis, len(x)) for axis in order) != list(range(len(x))):
        raise node.fail(f"a permutation of {len(x)} axes", order)
    return [tuple(x[axis] for axis in order)]


@rule("REVERSE_V2", (2, 2))
def reverse(node: Node) -> list[Shape | None]:
    _same_type(node)
    for axis in node.numbers(1) or ():
        node.axis(axis, len(node.shape(0)))
    return [node.shape(0)]


@rule("SPLIT", (2, 2), (1, MANY))
def split(node: Node) -> list[Shape | None]:
    _same_type(node, 1)
    x, axis, parts = node.shape(1), node.numbers(0), node.option("parts")
    if parts != len(node.outputs):
        raise node.fail(f"{len(node.outputs)} parts, one for each output", parts)
    if axis is None:
        return [None] * parts
    if len(axis) != 1:
        raise node.fail("one axis", axis)
    along = node.axis(axis[0], len(x))
    if x and x[along] >= 0 and x[along] % parts:
        raise node.fail(f"a size that {parts} parts divide along axis {along}", x)
    return [_replaced(x, along, x[along] // parts if x[along] >= 0 else ANY)] * parts


@rule("SPLIT_V", (3, 3), (1, MANY))
def split_v(node: Node) -> list[Shape | None]:
    _same_type(node)
    x, sizes, axis = node.shape(0), node.numbers(1), node.numbers(2)
    if sizes is None or axis is None:
        return [None] * len(node.outputs)
    if len(sizes) != len(node.outputs) or node.option("parts") != len(sizes) or len(axis) != 1:
        raise node.fail(f"{len(node.outputs)} sizes and one axis", (sizes, axis))
    along = node.axis(axis[0], len(x))
    rest = x[along] - sum(size for size in sizes if size >= 0)
    if min(sizes) < -1 or sizes.count(-1) > 1 or (x[along] >= 0 and (rest < 0 or (rest and -1 not in sizes))):
        raise node.fail(f"sizes that add to {x[along]}", sizes)
    return [_replaced(x, along, size if size >= 0 else rest if x[along] >= 0 else ANY) for size in sizes]


@rule("SLICE", (3, 3))
def slice_(node: Node) -> list[Shape | None]:
    _same_type(node)
    x, begin, size = node.shape(0), node.numbers(1), node.numbers(2)
    if begin is None or size is None:
        return [None]
    if not len(begin) == len(size) == len(x) or any(
        b < 0 or s < -1 or (n >= 0 and b + max(s, 0) > n) for b, s, n in zip(begin, size, x, strict=True)
    ):
        raise node.fail(f"a slice inside of {x}", f"begin {begin}, size {size}")
    return [tuple((n - b if n >= 0 else n) if s < 0 else s for b, s, n in zip(begin, size, x, strict=True))]


@rule("STRIDED_SLICE", (4, 4))
def strided_slice(node: Node) -> list[Shape | None]:
    _same_type(node)
    x, begin, end, steps = node.shape(0), node.numbers(1), node.numbers(2), node.numbers(3)
    if steps is not None and 0 in steps:
        raise node.fail("steps other than 0", steps)
    if begin is None or end is None or steps is None:
        return [None]
    if not len(begin) == len(end) == len(steps):
        raise node.fail("begin, end and steps of one length", (begin, end, steps))
    if node.option("ellipsis_mask") or node.option("new_axis_mask") or node.option("offset"):
        return [None]
    if len(begin) > len(x):
        raise node.fail(f"at most {len(x)} axes", begin)
    return [_strided(node, x, begin, end, steps)]


def _strided(node: Node, x: Shape, begin: Shape, end: Shape, steps: Shape) -> Shape:
    shape = []
    for i, (first, last, step) in enumerate(zip(begin, end, steps, strict=True)):
        if node.option("shrink_mask") >> i & 1:
            if x[i] >= 0 and not -x[i] <= first < x[i]:
                raise node.fail(f"an index inside of axis {i} of {x}", first)
        elif x[i] < 0:
            shape.append(x[i] if _whole(node, i, first, last, step) else ANY)
        else:
            open_first, open_last = node.option("begin_mask") >> i & 1, node.option("end_mask") >> i & 1
            shape.append(len(range(x[i])[slice(None if open_first else first, None if open_last else last, step)]))
    return (*shape, *x[len(begin) :])


def _whole(node: Node, i: int, first: int, last: int, step: int) -> bool:
    """Whether a strided slice takes an axis as it is."""
    return step == 1 and (first == 0 or node.option("begin_mask") >> i & 1) and bool(node.option("end_mask") >> i & 1)


@rule("PAD PADV2", (2, 3))
def pad(node: Node) -> list[Shape | None]:
    _same_type(node)
    pairs = _pairs(node, 1, len(node.shape(0)))
    if pairs is None:
        return [None]
    return [tuple(_plus(size, sum(pair)) for size, pair in zip(node.shape(0), pairs, strict=True))]


@rule("MIRROR_PAD", (2, 2))
def mirror_pad(node: Node) -> list[Shape | None]:
    pairs, border = _pairs(node, 1, len(node.shape(0))), node.choice("mode", 0, 1)
    for size, pair in zip(node.shape(0), pairs or (), strict=bool(pairs)):
        if 0 <= size < max(pair) + 1 - border:
            raise node.fail(f"paddings that the input {node.shape(0)} can mirror", pairs)
    return pad(node)


def _pairs(node: Node, i: int, rank: int) -> list[Shape] | None:
    """Constant [rank, 2] of sizes to add or to cut; None where they are computed."""
    values = node.numbers(i)
    if values is None:
        return None
    if len(values) != 2 * rank or not all(0 <= value <= _LARGEST_PADDING for value in values):
        raise node.fail(f"{rank} pairs from 0 to {_LARGEST_PADDING} in input {i}", values)
    return [values[2 * k : 2 * k + 2] for k in range(rank)]


@rule("RESIZE_NEAREST_NEIGHBOR RESIZE_BILINEAR", (2, 2))
def resize(node: Node) -> list[Shape | None]:
    _same_type(node)
    x, size = node.rank(0, 4), node.numbers(1)
    if size is None:
        return [(x[0], ANY, ANY, x[3])]
    if len(size) != 2 or min(size) < 1 or 0 in x[1:3]:
        raise node.fail("two sizes over 0", f"{size} of {x}")
    return [(x[0], *size, x[3])]


def _blocks(node: Node) -> tuple[Shape, Shape | None, list[Shape] | None]:
    """Shape, block and pairs of SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND."""
    x, block = node.rank(0, 3, 4), node.numbers(1)
    if block is not None and (len(block) != len(x) - 2 or not all(1 <= b <= _LARGEST_FACTOR for b in block)):
        raise node.fail(f"{len(x) - 2} block sizes from 1 to {_LARGEST_FACTOR}", block)
    return x, block, _pairs(node, 2, len(x) - 2)


@rule("SPACE_TO_BATCH_ND", (3, 3))
def space_to_batch(node: Node) -> list[Shape | None]:
    _same_type(node)
    x, block, pairs = _blocks(node)
    if block is None or pairs is None:
        return [None]
    sizes = [_plus(size, sum(pair)) for size, pair in zip(x[1:-1], pairs, strict=True)]
    if any(size >= 0 and size % b for size, b in zip(sizes, block, strict=True)):
        raise node.fail(f"sizes that the blocks {block} divide", sizes)
    spatial = (ANY if size < 0 else size // b for size, b in zip(sizes, block, strict=True))
    return [(ANY if x[0] < 0 else x[0] * math.prod(block), *spatial, x[-1])]


@rule("BATCH_TO_SPACE_ND", (3, 3))
def batch_to_space(node: Node) -> list[Shape | None]:
    _same_type(node)
    x, block, pairs = _blocks(node)
    if block is None or pairs is None:
        return [None]
    if x[0] >= 0 and x[0] % math.prod(block):
        raise node.fail(f"a batch that the blocks {block} divide", x[0])
    sizes = [ANY if s < 0 else s * b - sum(pair) for s, b, pair in zip(x[1:-1], block, pairs, strict=True)]
    if any(size < 0 <= s for size, s in zip(sizes, x[1:-1], strict=True)):
        raise node.fail(f"crops inside of {x}", pairs)
    return [(ANY if x[0] < 0 else x[0] // math.prod(block), *sizes, x[-1])]


@rule("SPACE_TO_DEPTH DEPTH_TO_SPACE", (1, 1))
def between_space_and_depth(node: Node) -> list[Shape | None]:
    _same_type(node)
    (n, h, w, c), b = node.rank(0, 4), node.choice("block", 1, _LARGEST_FACTOR)
    if node.name == "SPACE_TO_DEPTH":
        if (h > 0 and h % b) or (w > 0 and w % b):
            raise node.fail(f"height and width that {b} divides", (h, w))
        return [(n, *(ANY if size < 0 else size // b for size in (h, w)), ANY if c < 0 else c * b * b)]
    if c > 0 and c % (b * b):
        raise node.fail(f"channels that {b * b} divides", c)
    return [(n, *(ANY if size < 0 else size * b for size in (h, w)), ANY if c < 0 else c // (b * b))]


@rule("GATHER", (2, 2))
def gather(node: Node) -> list[Shape | None]:
    _same_type(node)
    x, indices = node.shape(0), node.shape(1)
    if not x:
        raise node.fail("an input with an axis", x)
    axis, batch = node.axis(node.option("axis"), len(x)), node.option("batch_axes")
    if not 0 <= batch <= min(axis, len(indices)):
        raise node.fail(f"batch axes before axis {axis}", batch)
    for index in node.numbers(1) or ():
        if index < 0 or 0 <= x[axis] <= index:
            raise node.fail(f"indices inside of axis {axis} of {x}", index)
    return [(*x[:axis], *indices[batch:], *x[axis + 1 :])]


@rule("SHAPE", (1, 1))
def shape_of(node: Node) -> list[Shape | None]:
    return [(len(node.shape(0)),)]


@rule("PACK", (1, MANY))
def pack(node: Node) -> list[Shape | None]:
    _same_type(node)
    shapes = [node.shape(i) for i in range(len(node.inputs))]
    if node.option("parts") != len(shapes):
        raise node.fail(f"{len(shapes)} parts, one for each input", node.option("parts"))
    axis = node.axis(node.option("axis"), len(shapes[0]) + 1)
    for shape in shapes[1:]:
        if len(shape) != len(shapes[0]) or any(
            a != b and min(a, b) >= 0 for a, b in zip(shape, shapes[0], strict=True)
        ):
            raise node.fail("inputs of one shape", shapes)
    return [(*shapes[0][:axis], len(shapes), *shapes[0][axis:])]


@rule("UNPACK", (1, 1), (1, MANY))
def unpack(node: Node) -> list[Shape | None]:
    _same_type(node)
    x, parts = node.shape(0), node.option("parts")
    axis = node.axis(node.option("axis"), len(x))
    if not x or (x[axis] >= 0 and x[axis] != parts) or parts != len(node.outputs):
        raise node.fail(f"{len(node.outputs)} parts along axis {axis} of {x}", parts)
    return [x[:axis] + x[axis + 1 :]] * parts


@rule("TILE", (2, 2))
def tile(node: Node) -> list[Shape | None]:
    _same_type(node)
    x, factors = node.shape(0), node.numbers(1)
    if factors is None:
        return [None]
    if len(factors) != len(x) or not all(0 <= factor <= _LARGEST_FACTOR for factor in factors):
        raise node.fail(f"{len(x)} factors from 0 to {_LARGEST_FACTOR}", factors)
    return [tuple(_times(size, factor) for size, factor in zip(x, factors, strict=True))]


@rule("BROADCAST_TO", (2, 2))
def broadcast_to(node: Node) -> list[Shape | None]:
    _same_type(node)
    x, wanted = node.shape(0), node.numbers(1)
    if wanted is None:
        return [None]
    padded = (1,) * (len(wanted) - len(x)) + x
    if len(padded) != len(wanted) or any(a >= 0 and a not in (1, b) for a, b in zip(padded, wanted, strict=True)):
        raise node.fail(f"a shape that {x} broadcasts to", wanted)
    return [wanted]


def _plus(size: int, more: int) -> int:
    return size + more if size >= 0 else ANY if more else size


def _times(size: int, factor: int) -> int:
    return size * factor if size >= 0 else size if factor == 1 else ANY


def _replaced(shape: Shape, axis: int, size: int) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])
