"""Blocks of a network: stretches between places where one tensor is all that goes on.

derived: after a call, the network is cut where every later call reads only that call's output. A residual block has no
such place inside. choice: a depthwise layer goes with what follows it, a 1x1 convolution that adds channels with the
depthwise layer behind it (an inverted bottleneck), layers without weights with the next layer that has some.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from keras_dbq.compat import keras
from keras_dbq.network import kernels
from keras_dbq.network.graph import Graph, inner, inputs, output


class Block(NamedTuple):
    """The calls first .. last of `Graph.nodes`; name: of the layer whose output it gives."""

    name: str
    first: int
    last: int


def find_blocks(graph: Graph, ends: Callable[[Any], bool], names: Sequence[str] | None = None) -> list[Block]:
    """The blocks of a model, in order of execution; layers without weights at its end are in none.

    Args:
      ends: whether a block may end with a call.
      names: of the layers that blocks end with; None: as described above.

    Raises:
      ValueError: a name at which the network cannot be cut.
    """
    pieces = _pieces(graph, ends)
    if names is None:
        return _joined(graph, pieces)
    possible = [piece.name for piece in pieces]
    wrong = [name for name in names if name not in possible]
    if wrong:
        raise ValueError(f"blocks: expected layers among {', '.join(possible)}, got {', '.join(wrong)}")
    last = [piece.last for piece in pieces if piece.name in names]
    starts = [pieces[0].first, *(position + 1 for position in last[:-1])]
    return [Block(_name(graph, b), a, b) for a, b in zip(starts, last, strict=True)]


def _pieces(graph: Graph, ends: Callable[[Any], bool]) -> list[Block]:
    """The shortest stretches."""
    last_read: dict[int, int] = {}
    for position, node in enumerate(graph.nodes):
        for tensor in inputs(node):
            last_read[id(tensor)] = position
    alive: dict[int, int] = {}  # tensor -> the last call that reads it
    found, first = [], 0
    for position, node in enumerate(graph.nodes):
        alive = {key: last for key, last in alive.items() if last > position}
        tensor = output(node)
        alive[id(tensor)] = max(last_read.get(id(tensor), position), position)
        going_on = [key for key, last in alive.items() if last > position]
        unread = any(last_read.get(id(tensor), -1) > position for tensor in graph.model.inputs)
        if ends(node) and not unread and going_on in ([id(tensor)], []):
            found.append(Block(_name(graph, position), first, position))
            first = position + 1
    return found


def _name(graph: Graph, position: int) -> str:
    return str(inner(graph.nodes[position].layer).name)


def _joined(graph: Graph, pieces: list[Block]) -> list[Block]:
    found: list[Block] = []
    for piece in pieces:
        if found and _belong_together(_kernels(graph, found[-1]), _kernels(graph, piece)):
            piece = Block(piece.name, found.pop().first, piece.last)
        found.append(piece)
    return found if not found or _kernels(graph, found[-1]) else found[:-1]


def _kernels(graph: Graph, block: Block) -> list[Any]:
    layers = [inner(node.layer) for node in graph.nodes[block.first : block.last + 1]]
    return [layer for layer in layers if kernels.is_kernel_layer(layer)]


def _belong_together(before: list[Any], after: list[Any]) -> bool:
    if not before:
        return True
    if not after:
        return False
    if kernels.is_depthwise(before[-1]):
        return True
    return len(before) == 1 and _adds_channels(before[0]) and kernels.is_depthwise(after[0])


def _adds_channels(layer: Any) -> bool:
    pointwise = isinstance(layer, keras.layers.Conv2D) and tuple(layer.kernel_size) == (1, 1)
    shape = getattr(layer, kernels.attribute(layer)).shape
    return pointwise and int(shape[-1]) > int(shape[-2])
