"""What stands in the way of an integer file: which layer, why, and what to do. One list, which `check` gives back and
`quantize_model` raises.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from keras_dbq._table import Table
from keras_dbq.compat import keras, tf
from keras_dbq.network import graph
from keras_dbq.network.graph import Graph, inner

_IN_FLOAT = 'use on_unsupported="skip" to keep it in float'


class Obstacle(NamedTuple):
    """One layer that has no integer form.

    layer, type: of the user's model.  reason: a phrase.  advice: what to do, a phrase.
    fatal: leaving the layer in float does not help.
    """

    layer: str
    type: str
    reason: str
    advice: str
    fatal: bool = False

    def __str__(self) -> str:
        return f"layer {self.layer!r} of type {self.type} has no integer form: {self.reason}; {self.advice}"


class Obstacles(tuple[Obstacle, ...]):
    """All obstacles of a network, one for a layer, in the order of execution; empty (false) where there is none.

    Printed, it is a table of layer, type, reason and advice.
    """

    def __new__(cls, found: Iterable[Obstacle] = ()) -> "Obstacles":
        first: dict[str, Obstacle] = {}
        for one in found:
            first.setdefault(one.layer, one)
        return super().__new__(cls, first.values())

    @property
    def fatal(self) -> "Obstacles":
        """Those that leaving the layer in float does not help."""
        return Obstacles(one for one in self if one.fatal)

    def sentence(self) -> str:
        """All of them in one line, as the text of an error."""
        way_out = "" if self.fatal else f" (or leave it out of the annotation, or {_IN_FLOAT})"
        return "; ".join(map(str, self)) + way_out

    def __str__(self) -> str:
        if not self:
            return "nothing stands in the way"
        table = Table(["layer", "type", "what stands in the way", "what to do"])
        for one in self:
            table.add(one.layer, one.type, one.reason, one.advice)
        return str(table) + ("" if self.fatal else f"\nor {_IN_FLOAT}")

    __repr__ = __str__


def of_copies(model: keras.Model) -> list[Obstacle]:
    """Layers, in nested models as well, that cannot be made again from their config."""
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += of_copies(layer)
            continue
        try:
            graph.clone(layer)
        except ValueError as error:
            reason = f"it cannot be copied ({error})"
            advice = "give its class a get_config with all arguments of its __init__"
            found.append(Obstacle(layer.name, type(layer).__name__, reason, advice, fatal=True))
    return found


_FIXED_SIZE = "give the model's Input a shape without None"


def of_sizes(model: keras.Model) -> list[Obstacle]:
    """Inputs and layers whose tensors have no fixed size; behind such an input nothing else is named."""
    inputs = [tensor for tensor in model.inputs if _is_open(tensor)]
    found = [_open_size(tensor._keras_history.layer, tensor, "the input") for tensor in inputs]
    for node in [] if found else Graph(model).nodes:
        for tensor in tf.nest.flatten(node.outputs):
            if _is_open(tensor) and not any(map(_is_open, tf.nest.flatten(node.keras_inputs))):
                found.append(_open_size(inner(node.layer), tensor, "its output"))
    return found


def _is_open(tensor: Any) -> bool:
    return tensor.dtype.is_floating and (tensor.shape.rank is None or None in tensor.shape[1:])


def _open_size(layer: Any, tensor: Any, what: str) -> Obstacle:
    sizes = "unknown" if tensor.shape.rank is None else tuple(tensor.shape[1:])
    return Obstacle(layer.name, type(layer).__name__, f"{what} has no fixed size, got {sizes}", _FIXED_SIZE, fatal=True)
