"""Which tensor of the file is which tensor of the Keras model, and which batch norm folds into which layer."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from keras_dbq.compat import keras
from keras_dbq.network import batch_norm
from keras_dbq.network.chains import Chains
from keras_dbq.network.graph import Graph, inner, inputs, output
from keras_dbq.wrapping.layers import QuantizeTensor
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
