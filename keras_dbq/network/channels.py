"""The walk along a channel: from the kernel layer that makes it to the one that reads it, and what lies between.

A step from call to call is possible where nothing else reads the tensor between, so the walk is the same in both
directions.
"""

from typing import Any, NamedTuple

from keras_dbq.compat import keras
from keras_dbq.network import roles
from keras_dbq.network.graph import Graph, inputs, output

_L = keras.layers


class Blocked(NamedTuple):
    """Why a walk ends: a phrase for tables."""

    reason: str


def after(graph: Graph, node: Any) -> Any:
    """The call that alone reads what a call computes, or Blocked."""
    reader = graph.only_reader(node)
    if reader is not None:
        return reader
    several = graph.readers(output(node)) and not graph.is_output(output(node))
    return Blocked("several layers read it" if several else "an output of the model")


def before(graph: Graph, node: Any) -> Any:
    """The call whose output a call alone reads, or Blocked."""
    tensor = inputs(node)[0]
    source, name = graph.producer(tensor), tensor._keras_history.layer.name
    if len(graph.readers(tensor)) > 1 or graph.is_output(tensor):
        return Blocked(f"several layers read {name}")
    if source is None:
        return Blocked(f"{name} makes its channels")
    return Blocked(f"{node.layer.name} has several inputs") if len(inputs(node)) > 1 else source


def crossing(layer: keras.layers.Layer) -> str:
    """What a layer without weights does to each channel by itself: the name of its activation, "linear" where a factor
    above 0 passes through; the name of the layer's type where a channel does not pass by itself.
    """
    if isinstance(layer, _L.ReLU) and roles.plain_role(layer) == roles.RELU:
        return "relu" if layer.max_value is None else "relu6"
    if isinstance(layer, _L.Activation):
        return roles.activation_name(layer.activation)
    passes = type(layer) in roles.HOMOGENEOUS and getattr(layer, "interpolation", "nearest") == "nearest"
    return "linear" if passes else type(layer).__name__
