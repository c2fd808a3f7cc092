"""Which tensor of the file is which tensor of the Keras model, and which batch norm folds into which layer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.network import graph, roles
from keras_dbq.wrapping import wrappers
from keras_dbq.wrapping.layers import QuantizeTensor

L = keras.layers
_FUSED = (roles.FOLD, roles.RELU, roles.IDENTITY)
_CHAIN = (roles.WEIGHTS, roles.SUM, roles.FOLD, roles.IDENTITY)


class QuantizedOutput(NamedTuple):
    """One quantized activation of a Keras model.

    node: the call whose output it is.  tensor: the KerasTensor.  name: of the tensor in the file.
    scale, zero_point: its int8 grid.
    """

    node: Any
    tensor: Any
    name: str
    scale: np.float32
    zero_point: int


def plain_name(layer: keras.layers.Layer) -> str:
    """Name of the user's layer: without the wrapper's prefix."""
    return wrappers.inner(layer).name


def quantized_outputs(q_model: keras.Model) -> list[QuantizedOutput]:
    """Every quantized activation, in the order of execution.

    choice: a tensor of the file has the name of the layer whose operator computes it, so for a fused chain (kernel,
    batch norm, ReLU) the kernel layer's name; the quantized input has the input layer's.
    """
    trace = _Trace(q_model)
    found = []
    for node in trace.nodes:
        quantized = wrappers.quantized_output(node.layer)
        if quantized is None:
            continue
        source, output = tf.nest.flatten(node.keras_inputs)[0], tf.nest.flatten(node.outputs)[0]
        is_input = isinstance(node.layer, QuantizeTensor)
        name = source._keras_history.layer.name if is_input else trace.main_layer(node)
        found.append(QuantizedOutput(node, output, name, *quantized.quantizer.grid(quantized.variables)))
    return found


class _Trace:
    """Walks a model's graph backwards."""

    def __init__(self, q_model: keras.Model):
        self.nodes = graph.nodes(q_model)
        self.consumers = graph.consumers(q_model)
        self.outputs = graph.output_ids(q_model)
        self.producer = {id(tensor): node for node in self.nodes for tensor in tf.nest.flatten(node.outputs)}

    def before(self, node: Any) -> Any:
        """The node whose output feeds this node alone, in float; None if there is none."""
        tensor = tf.nest.flatten(node.keras_inputs)[0]
        alone = len(self.consumers[id(tensor)]) == 1 and id(tensor) not in self.outputs
        node = self.producer.get(id(tensor))
        return node if node is not None and alone and wrappers.quantized_output(node.layer) is None else None

    def main_layer(self, node: Any) -> str:
        """Name of the layer that a fused chain starts with."""
        while role(node) in _FUSED:
            before = self.before(node)
            if before is None or role(before) not in _CHAIN:
                break
            node = before
        return plain_name(node.layer)


def folds(q_model: keras.Model) -> dict[int, keras.layers.Layer]:
    """{id of a kernel layer: the batch norm layer that folds into it, because it feeds nothing else, in float}.

    Raises:
      ValueError: a layer that is called several times has a batch norm behind it.
    """
    trace = _Trace(q_model)
    found: dict[int, keras.layers.Layer] = {}
    for node in trace.nodes:
        if not isinstance(wrappers.inner(node.layer), L.BatchNormalization):
            continue
        before = trace.before(node)
        kernel = None if before is None else wrappers.inner(before.layer)
        if kernel is None or not roles.is_kernel_layer(kernel):
            continue
        if roles.activation_name(kernel.activation) != "linear":
            continue
        if sum(other.layer is before.layer for other in trace.nodes) > 1:
            raise ValueError(
                f"layer {kernel.name!r}: expected one call of a layer with batch norm behind it, got several; give "
                "each call its own layer before quantizing"
            )
        found[id(before.layer)] = node.layer
    return found


def role(node: Any) -> str:
    """Role of a node whose layer may be wrapped."""
    inner = wrappers.inner(node.layer)
    if inner is node.layer:
        return roles.role(node)
    # A wrapper's node has the arguments of the layer inside.
    return roles.role(
        SimpleNamespace(
            layer=inner, keras_inputs=node.keras_inputs, call_args=node.call_args, call_kwargs=node.call_kwargs
        )
    )
