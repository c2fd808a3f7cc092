"""Linear spaces: tensors whose channels are only ever mixed by the layers that make them and by those that read them.

MobileNetV2's bottlenecks are such: a 1x1 convolution without an activation makes them, residual additions join them,
and 1x1 convolutions read them. Their channels may be replaced by any others that they can be computed from again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from keras_dbq.compat import keras, tf
from keras_dbq.network import channels, kernels, roles
from keras_dbq.network.graph import Graph, inputs, output

L = keras.layers
_JOINING = (L.Add, L.Subtract, L.Average)
_PICKING = (L.MaxPooling2D, L.GlobalMaxPooling2D)  # a largest value is another one among other channels


class Space(NamedTuple):
    """One linear space.

    makers, readers: calls of kernel layers, in order of execution. A layer may be both a reader of one space and a
      maker of another.
    blocked: why its channels have to stay, in a phrase; "" where they need not.
    """

    makers: list[Any]
    readers: list[Any]
    blocked: str


def linear_spaces(graph: Graph) -> list[Space]:
    """The spaces that a kernel layer without an activation makes, in order of execution."""
    found = _Spaces()
    for tensor in graph.model.inputs:
        found.block(tensor, "an input of the model is among it")
    for node in graph.nodes:
        found.add(graph, node)
    for tensor in tf.nest.flatten(graph.model.outputs):
        found.block(tensor, "an output of the model is among it")
    return found.all()


class _Spaces:
    """Sets of tensors, joined as calls are added."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}
        self._reasons: list[tuple[int, str]] = []
        self._makers: list[tuple[int, Any]] = []
        self._readers: list[tuple[int, Any]] = []

    def add(self, graph: Graph, node: Any) -> None:
        layer, given, made = node.layer, inputs(node), output(node)
        if _joins(node):
            for tensor in given:
                self._parent[self._root(id(tensor))] = self._root(id(made))
            return
        reason = _cannot_read(graph, layer) if len(given) == 1 else f"{layer.name} reads it"
        for tensor in given:
            self.block(tensor, reason)
        if not reason:
            self._readers.append((id(given[0]), node))
        if kernels.mixes_channels(layer) and _is_linear(layer):
            self._makers.append((id(made), node))
            self.block(made, _called_again(graph, layer))
        else:
            for tensor in tf.nest.flatten(node.outputs):
                self.block(tensor, f"{layer.name} makes its channels")

    def block(self, tensor: Any, reason: str) -> None:
        if reason:
            self._reasons.append((id(tensor), reason))

    def all(self) -> list[Space]:
        makers, readers, reasons = (self._by_root(part) for part in (self._makers, self._readers, self._reasons))
        return [Space(found, readers.get(root, []), reasons.get(root, [""])[0]) for root, found in makers.items()]

    def _by_root(self, pairs: list[tuple[int, Any]]) -> dict[int, list[Any]]:
        found: dict[int, list[Any]] = {}
        for tensor, value in pairs:
            found.setdefault(self._root(tensor), []).append(value)
        return found

    def _root(self, tensor: int) -> int:
        while self._parent.setdefault(tensor, tensor) != tensor:
            tensor = self._parent[tensor]
        return tensor


def _joins(node: Any) -> bool:
    """Whether mixing the channels of all that a call reads mixes those of what it gives in the same way."""
    layer, given = node.layer, inputs(node)
    if type(layer) in _JOINING:
        constants = len(tf.nest.flatten(node.call_args)) > len(given)  # they would stay as they are
        return not constants and len({tensor.shape[-1] for tensor in (*given, output(node))}) == 1  # no broadcast
    return type(layer) not in _PICKING and channels.crossing(layer) == "linear"


def _cannot_read(graph: Graph, layer: Any) -> str:
    """Why other channels cannot be given to a layer, "" where they can."""
    if not kernels.mixes_channels(layer):
        return f"{layer.name} reads it"
    if tuple(getattr(layer, "kernel_size", (1, 1))) != (1, 1):
        return f"the kernel of {layer.name} has several places"
    return _called_again(graph, layer)


def _called_again(graph: Graph, layer: Any) -> str:
    return f"{layer.name} is called several times" if len(graph.calls(layer)) > 1 else ""


def _is_linear(layer: Any) -> bool:
    return roles.activation_name(layer.activation) == "linear"
