"""Which tensor of the file is which tensor of the Keras model, what it is called, and which batch norm folds where."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.network import batch_norm, kernels, roles
from keras_dbq.network.chains import Chains
from keras_dbq.network.graph import Graph, inner, inputs, output
from keras_dbq.wrapping.layers import NamedOutput, QuantizeTensor
from keras_dbq.wrapping.wrappers import quantized_output


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
    return inner(layer).name


def quantized_outputs(q_model: keras.Model) -> list[QuantizedOutput]:
    """Every quantized activation, in the order of execution.

    choice: a tensor of the file has the name of the layer whose operator computes it, so for a chain (kernel, batch
    norm, ReLU) the kernel layer's name; the quantized input has the input layer's.
    """
    chains = Chains(Graph(q_model), is_quantized)
    found = []
    for node in chains.graph.nodes:
        quantized = quantized_output(node.layer)
        if quantized is None:
            continue
        is_input = isinstance(node.layer, QuantizeTensor)
        layer = inputs(node)[0]._keras_history.layer if is_input else chains.head(node).layer
        grid = quantized.quantizer.grid(quantized.variables)
        found.append(QuantizedOutput(node, output(node), plain_name(layer), *grid))
    return found


def is_quantized(node: Any) -> bool:
    """Whether the output of a call is quantized."""
    return quantized_output(node.layer) is not None


def folds(q_model: keras.Model) -> dict[int, keras.layers.Layer]:
    """{id of a kernel layer (as it stands in the model): the batch norm layer that folds into it}."""
    return batch_norm.folds(Graph(q_model), is_quantized)


def output_names(q_model: keras.Model) -> list[str]:
    """What the float model called its outputs, in the order of q_model.outputs."""
    if isinstance(q_model.output, dict):
        return sorted(q_model.output)
    return _uniquified([_user_name(tensor) for tensor in q_model.outputs])


def _uniquified(names: list[str]) -> list[str]:
    """Repeated names get _1, _2, ..., as in Keras' own `output_names`."""
    unique: list[str] = []
    for name in names:
        endings = (f"_{number}" for number in itertools.count(1))
        unique.append(next(name + end for end in itertools.chain([""], endings) if name + end not in unique))
    return unique


def _user_name(tensor: Any) -> str:
    """The name of the user's layer that a tensor is the output of."""
    layer, node_index, _ = tensor._keras_history
    if isinstance(layer, NamedOutput):
        return layer.name.removeprefix(NamedOutput.PREFIX)
    sources = inputs(layer._inbound_nodes[node_index])
    if isinstance(layer, QuantizeTensor):
        return _user_name(sources[0])
    return _split_from(layer, sources) or plain_name(layer)


def _split_from(layer: keras.layers.Layer, sources: list[Any]) -> str:
    """The kernel layer whose activation this layer was split from (`schemes.rewrite`); empty for others."""
    before = sources[0]._keras_history.layer if sources else layer
    name, activation = plain_name(before), roles.activation_name(getattr(inner(layer), "activation", None))
    return name if kernels.is_kernel_layer(inner(before)) and plain_name(layer) == f"{name}_{activation}" else ""


def name_outputs(model: keras.Model, names: list[str]) -> keras.Model:
    """The model with a layer behind each output whose name would be lost, so that `output_names` gives `names`."""
    own = output_names(model)
    if own == names:
        return model
    outputs = [
        tensor if name == old else NamedOutput(name=NamedOutput.PREFIX + name)(tensor)
        for tensor, name, old in zip(model.outputs, names, own, strict=True)
    ]
    return keras.Model(model.input, tf.nest.pack_sequence_as(model.output, outputs), name=model.name)
