"""The walk along a channel: from the kernel layer that makes it to the one that reads it, and what lies between.

A step from call to call is possible where nothing else reads the tensor between and no layer is called twice, so the
walk is the same in both directions.
"""

from typing import Any, NamedTuple

from keras_dbq.compat import keras
from keras_dbq.network import kernels, roles
from keras_dbq.network.graph import Graph, inputs, output

_L = keras.layers


class Blocked(NamedTuple):
    """Why a walk ends: a phrase for tables."""

    reason: str


def after(graph: Graph, node: Any) -> Any:
    """The call that alone reads what a call computes, or Blocked."""
    if graph.is_output(output(node)):
        return Blocked("an output of the model")
    reader = graph.only_reader(node)
    if reader is None:
        return Blocked("several layers read it" if graph.readers(output(node)) else "an output of the model")
    if len(graph.calls(reader.layer)) > 1:
        return Blocked(f"{reader.layer.name} is called several times")
    return reader


def before(graph: Graph, node: Any) -> Any:
    """The call whose output a call alone reads, or Blocked."""
    if len(graph.calls(node.layer)) > 1:
        return Blocked(f"{node.layer.name} is called several times")
    tensor = inputs(node)[0]
    source = graph.producer(tensor)
    if len(graph.readers(tensor)) > 1 or graph.is_output(tensor):
        return Blocked(f"several layers read {tensor._keras_history.layer.name}")
    if source is None:
        return Blocked(f"{tensor._keras_history.layer.name} makes its channels")
    return Blocked(f"{node.layer.name} has several inputs") if len(inputs(node)) > 1 else source


def crossing(layer: keras.layers.Layer) -> str:
    """What becomes of a channel in a layer: "kernel", "norm", the name of an activation ("linear": each channel stays
    by itself, and a factor above 0 passes through), or "blocked".
    """
    if kernels.is_kernel_layer(layer):
        return "kernel"
    if isinstance(layer, _L.BatchNormalization):
        return "norm"
    if isinstance(layer, _L.ReLU):
        if roles.plain_role(layer) != roles.RELU:
            return "blocked"
        return "relu" if layer.max_value is None else "relu6"
    if isinstance(layer, _L.Activation):
        return roles.activation_name(layer.activation)
    passes = type(layer) in roles.HOMOGENEOUS and getattr(layer, "interpolation", "nearest") == "nearest"
    return "linear" if passes else "blocked"
