"""What each layer of a quantized model is, as data; `summary` and later tools draw their tables from it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_dbq.compat import keras
from keras_dbq.inspection import cost
from keras_dbq.inspection.cost import Cost, Kernel
from keras_dbq.limits import TRITS_PER_BYTE
from keras_dbq.network import kernels
from keras_dbq.network.graph import Graph, inputs, output
from keras_dbq.wrapping import wrappers


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
    output_shape: of one picture, None where a size is unknown.
    activation_bytes: of its outputs over all calls, a byte a number; 0 where another layer carries them or a size is
      unknown.
    kernel, cost: counts and cost of a quantized kernel (`inspection.cost`); None without one or with unknown sizes.
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
    output_shape: tuple[int | None, ...] = ()
    activation_bytes: int = 0
    kernel: Kernel | None = None
    cost: Cost | None = None
    trains: str = "-"


@dataclass(frozen=True)
class _Calls:
    """Where a layer is called: shapes without the batch, and bits of what it reads."""

    input_shapes: list[tuple[int | None, ...]]
    output_shapes: list[tuple[int | None, ...]]
    input_bits: int


def profile(q_model: keras.Model) -> list[LayerProfile]:
    """One entry per layer of a quantized model, nested models opened.

    Raises:
      TypeError, ValueError: not a quantized model.
    """
    wrappers.check_quantized(q_model, "profile")
    calls = _calls(q_model)
    nowhere = _Calls([], [], 8)
    return [_layer_profile(layer, calls.get(id(layer), nowhere)) for layer in wrappers.all_layers(q_model)]


def _calls(model: keras.Model) -> dict[int, _Calls]:
    """{id of a layer: where it is called}."""
    found: dict[int, _Calls] = {}
    graph = Graph(model)
    for node in graph.nodes:
        if isinstance(node.layer, keras.Model):
            found |= _calls(node.layer)
            continue
        calls = found.setdefault(id(node.layer), _Calls([], [], _input_bits(graph, node)))
        calls.input_shapes.append(tuple(inputs(node)[0].shape[1:]) if inputs(node) else ())
        calls.output_shapes.append(tuple(output(node).shape[1:]))
    return found


def _input_bits(graph: Graph, node: Any) -> int:
    """Bits of the nearest quantizer in front of a call; 8 where there is none."""
    while node is not None and inputs(node):
        node = graph.producer(inputs(node)[0])
        tensor = None if node is None else wrappers.quantized_output(node.layer)
        if tensor is not None:
            return int(getattr(tensor.quantizer, "bits", 8))
    return 8


def _numbers(shapes: list[tuple[int | None, ...]]) -> int:
    """Numbers in tensors of these shapes; 0 where a size is unknown."""
    return sum(0 if None in shape else int(np.prod([n or 0 for n in shape])) for shape in shapes)


def _layer_profile(layer: keras.layers.Layer, calls: _Calls) -> LayerProfile:
    plain = wrappers.inner(layer)
    quantized, tensor = wrappers.quantized_weights(layer), wrappers.quantized_output(layer)
    variables = {id(v): v for v in (*plain.weights, *(w.variable for w in quantized))}
    known = {
        "name": plain.name,
        "kind": type(plain).__name__,
        "activation": range_text(tensor),
        "parameters": int(sum(np.prod(v.shape) for v in variables.values())),
        "output_shape": calls.output_shapes[0] if calls.output_shapes else (),
        "activation_bytes": _numbers(calls.output_shapes) if tensor is not None else 0,
        "trains": _trained_parts(layer, set(variables)),
    }
    if quantized:
        return LayerProfile(**known, **_quantized_kernel(plain, quantized[0], calls))
    if kernels.is_kernel_layer(plain):
        count = int(np.prod(getattr(plain, kernels.attribute(plain)).shape))
        macs = _macs(plain, count, calls.output_shapes)
        return LayerProfile(**known, weights="float", weight_bytes=4 * count, macs=macs)
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


def _quantized_kernel(plain: Any, weight: wrappers.QuantizedWeight, calls: _Calls) -> dict[str, Any]:
    kernel = _kernel(plain, weight, calls)
    found = {
        "weights": weight.quantizer.describe(),
        "weight_bytes": kernel.weights,
        "macs": kernel.length * kernel.dot_products,
        "kernel": kernel,
        "cost": cost.cost(kernel, _numbers(calls.input_shapes)) if kernel.dot_products else None,
    }
    if not kernel.branches:
        return found
    return found | {
        "ternary": True,
        "sparsity": [1 - share for share in kernel.density],
        "weight_bytes": kernel.branches * -(-kernel.weights // TRITS_PER_BYTE),
    }


def _kernel(plain: Any, weight: wrappers.QuantizedWeight, calls: _Calls) -> Kernel:
    count, quantizer = int(np.prod(weight.variable.shape)), weight.quantizer
    channels, values = kernels.channels(plain, weight.variable.shape), weight.variable.numpy()
    if quantizer.branches:
        planes = quantizer.ternary_weights(values, weight.variables).codes
        nonzero = tuple(int(np.count_nonzero(plane)) for plane in planes)
    else:
        nonzero = (int(np.count_nonzero(quantizer.integer_weights(values, weight.variables).values)),)
    return Kernel(
        count // channels,
        channels,
        _macs(plain, count, calls.output_shapes) // (count // channels),
        quantizer.branches,
        int(getattr(quantizer, "bits", 8)),
        calls.input_bits,
        nonzero,
    )


def _macs(layer: Any, weights: int, shapes: list[Any]) -> int:
    """Each weight is used once per output position of each call."""
    places = [shape[:-1] if isinstance(layer, keras.layers.Dense) else shape[:2] for shape in shapes]
    return weights * sum(0 if None in place else int(np.prod(place)) for place in places)


def range_text(tensor: wrappers.QuantizedTensor | None) -> str:
    """Bits and range of a quantized tensor; "-" for None."""
    if tensor is None:
        return "-"
    low, high = (float(end) for end in tensor.quantizer.range(tensor.variables))
    return f"{tensor.quantizer.describe()} [{low:.4g}, {high:.4g}]"
