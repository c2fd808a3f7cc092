"""What each layer of a quantized model is, as data; `summary` and later tools draw their tables from it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_dbq.compat import keras
from keras_dbq.network import kernels
from keras_dbq.network.graph import Graph, output
from keras_dbq.wrapping import wrappers

WEIGHTS_PER_BYTE = 5  # of a ternary branch in the packed file


@dataclass(frozen=True)
class LayerProfile:
    """One layer.

    name, kind: of the user's layer; its type.
    weights: how its kernel is quantized, "float" where it is not, "-" without a kernel.
    activation: bits and range of its quantized output, "-" where another layer carries it.
    parameters: numbers of the plain layer.
    sparsity: share of zero codes, branch by branch.
    weight_bytes: of the kernel in the packed file: a byte a linear weight, a byte for five trits of a branch, four for
      float. Scales and biases are not counted.
    macs: multiply-accumulates per picture, over all calls; 0 where a size is unknown.
    ternary: whether they need additions only, and one multiplication per output and branch.
    trains: what of the layer a training step changes: "weights" (kernel, bias, batch norm), "scales" (of its branches,
      thresholds), "range" (of its output, where that is trained); "-" for nothing.
    """

    name: str
    kind: str
    weights: str = "-"
    activation: str = "-"
    parameters: int = 0
    sparsity: list[float] = field(default_factory=list)
    weight_bytes: int = 0
    macs: int = 0
    ternary: bool = False
    trains: str = "-"


def profile(q_model: keras.Model) -> list[LayerProfile]:
    """One entry per layer of a quantized model, nested models opened.

    Raises:
      TypeError, ValueError: not a quantized model.
    """
    wrappers.check_quantized(q_model, "profile")
    shapes = _output_shapes(q_model)
    return [_layer_profile(layer, shapes.get(id(layer), [])) for layer in wrappers.all_layers(q_model)]


def _output_shapes(model: keras.Model) -> dict[int, list[Any]]:
    """{id of a layer: the output shape of each of its calls}."""
    found: dict[int, list[Any]] = {}
    for node in Graph(model).nodes:
        if isinstance(node.layer, keras.Model):
            found |= _output_shapes(node.layer)
        else:
            found.setdefault(id(node.layer), []).append(output(node).shape)
    return found


def _layer_profile(layer: keras.layers.Layer, shapes: list[Any]) -> LayerProfile:
    plain = wrappers.inner(layer)
    quantized = wrappers.quantized_weights(layer)
    variables = {id(v): v for v in (*plain.weights, *(w.variable for w in quantized))}
    known = {
        "name": plain.name,
        "kind": type(plain).__name__,
        "activation": range_text(wrappers.quantized_output(layer)),
        "parameters": int(sum(np.prod(v.shape) for v in variables.values())),
        "trains": _trained_parts(layer, set(variables)),
    }
    if quantized:
        return LayerProfile(**known, **_quantized_kernel(plain, quantized[0], shapes))
    if kernels.is_kernel_layer(plain):
        count = int(np.prod(getattr(plain, kernels.attribute(plain)).shape))
        return LayerProfile(**known, weights="float", weight_bytes=4 * count, macs=_macs(plain, count, shapes))
    return LayerProfile(**known)


def _trained_parts(layer: keras.layers.Layer, weights: set[int]) -> str:
    """What of a layer is among its trainable weights; `weights`: ids of the plain layer's."""
    output = wrappers.quantized_output(layer)
    ranges = {id(v) for v in output.variables.values()} if output else set()
    parts = {
        "weights": weights - ranges,
        "scales": {id(v) for w in wrappers.quantized_weights(layer) for v in w.variables.values()},
        "range": ranges,
    }
    trained = {id(v) for v in layer.trainable_weights}
    return ", ".join(part for part, ids in parts.items() if ids & trained) or "-"


def _quantized_kernel(plain: Any, weight: wrappers.QuantizedWeight, shapes: list[Any]) -> dict[str, Any]:
    count, quantizer = int(np.prod(weight.variable.shape)), weight.quantizer
    found = {"weights": quantizer.describe(), "weight_bytes": count, "macs": _macs(plain, count, shapes)}
    if not quantizer.branches:
        return found
    codes = quantizer.ternary_weights(weight.variable.numpy(), weight.variables).codes
    return found | {
        "ternary": True,
        "sparsity": [float(np.mean(plane == 0)) for plane in codes],
        "weight_bytes": quantizer.branches * -(-count // WEIGHTS_PER_BYTE),
    }


def _macs(layer: Any, weights: int, shapes: list[Any]) -> int:
    """Each weight is used once per output position of each call."""
    places = [1 if isinstance(layer, keras.layers.Dense) else shape[1:3] for shape in shapes]
    return weights * sum(0 if None in np.atleast_1d(p).tolist() else int(np.prod(p)) for p in places)


def range_text(tensor: wrappers.QuantizedTensor | None) -> str:
    """Bits and range of a quantized tensor; "-" for None."""
    if tensor is None:
        return "-"
    low, high = (float(end) for end in tensor.quantizer.range(tensor.variables))
    return f"{tensor.quantizer.describe()} [{low:.4g}, {high:.4g}]"
