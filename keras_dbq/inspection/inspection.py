"""Looking at a quantized model and changing what trains: weights, tables, freeze, strip."""

from typing import Any

import numpy as np

from keras_dbq._table import Table
from keras_dbq.compat import QuantizeWrapper, keras, tf
from keras_dbq.network import graph, roles
from keras_dbq.quantizers import IntegerWeights, TernaryWeights
from keras_dbq.wrapping import wrappers
from keras_dbq.wrapping.freezing import freeze  # noqa: F401
from keras_dbq.wrapping.strip import quantized_values, strip  # noqa: F401
from keras_dbq.wrapping.temperature import set_temperature  # noqa: F401


def _only_weight(layer: keras.layers.Layer, function: str, ternary: bool = False) -> wrappers.QuantizedWeight:
    for weight in wrappers.quantized_weights(layer):
        if not ternary or weight.quantizer.branches:
            return weight
    what = "ternary weights" if ternary else "quantized weights"
    raise ValueError(
        f"{function}: layer {getattr(layer, 'name', layer)!r} has no {what}; keras_dbq.summary(q_model) lists the "
        "layers that have"
    )


def get_ternary_weights(layer: keras.layers.Layer) -> TernaryWeights:
    """Codes, scales and thresholds of a ternary layer of a quantized model.

    Args:
      layer: a wrapper, such as `q_model.get_layer("quant_conv1")`.

    Returns:
      TernaryWeights(codes int8 [B, *kernel], scales float32 [B, M], integer_scales [B, M], thresholds [3**B - 1, M]).

    Raises:
      ValueError: the layer has no ternary weights.
    """
    weight = _only_weight(layer, "get_ternary_weights", ternary=True)
    return weight.quantizer.ternary_weights(weight.variable.numpy(), weight.variables)


def integer_weights(layer: keras.layers.Layer) -> IntegerWeights:
    """The quantized kernel of a wrapper as integers and a scale per channel (before batch norm is folded in).

    Raises:
      ValueError: the layer has no quantized weights.
    """
    weight = _only_weight(layer, "integer_weights")
    return weight.quantizer.integer_weights(weight.variable.numpy(), weight.variables)


def forward_modes(q_model: keras.Model) -> set[str]:
    """The forward passes that the ternary layers train with; empty without ternary layers."""
    weights = (w for layer in wrappers.all_layers(q_model) for w in wrappers.quantized_weights(layer))
    return {w.quantizer.forward for w in weights if w.quantizer.branches}


def sparsity(q_model: keras.Model) -> list[float]:
    """Share of zero codes per branch over all ternary layers: [branch 1, branch 2, ...]."""
    zeros: dict[int, int] = {}
    total: dict[int, int] = {}
    for layer in wrappers.all_layers(q_model):
        for weight in wrappers.quantized_weights(layer):
            if weight.quantizer.branches:
                codes = weight.quantizer.ternary_weights(weight.variable.numpy(), weight.variables).codes
                for branch, plane in enumerate(codes):
                    zeros[branch] = zeros.get(branch, 0) + int((plane == 0).sum())
                    total[branch] = total.get(branch, 0) + plane.size
    return [zeros[b] / total[b] for b in sorted(total)]


def summary(q_model: keras.Model, print_fn: Any = print) -> Table:
    """Prints and returns a table with one row per layer: how it is quantized, its weights, levels, sparsity and bits.

    Columns: layer, type, weights (how they are quantized), activation (bits and range of the output, "-" where another
    layer carries it), parameters, sparsity (share of zeros per branch), weight bytes (codes at 8 bits a linear weight,
    1.6 bits a branch of a ternary weight, as in the packed file; scales and biases not counted), multiplies (per
    picture: a ternary branch needs additions only, and one multiplication per output and branch).

    Args:
      print_fn: gets the table as text; None prints nothing.
    """
    wrappers.check_quantized(q_model, "summary")
    table = Table(
        ["layer", "type", "weights", "activation", "parameters", "sparsity", "weight bytes", "MACs", "of them ternary"],
        title=f"{q_model.name}: quantized layers",
        total=["parameters", "weight bytes", "MACs", "of them ternary"],
    )
    for layer in wrappers.all_layers(q_model):
        table.add(*_summary_row(layer))
    if print_fn is not None:
        print_fn(str(table))
    return table


def _summary_row(layer: keras.layers.Layer) -> list[Any]:
    plain = wrappers.inner(layer)
    quantized = wrappers.quantized_weights(layer)
    variables = {id(v): v for v in (*plain.weights, *(w.variable for w in quantized))}
    parameters = int(sum(np.prod(v.shape) for v in variables.values()))
    kind, shares, size, ternary = "-", "-", parameters * 4, False
    kernel_macs = 0
    for weight in quantized:
        count = int(np.prod(weight.variable.shape))
        quantizer = weight.quantizer
        kernel_macs += _macs(plain, count)
        kind = quantizer.describe()
        if quantizer.branches:
            ternary = True
            codes = get_ternary_weights(layer).codes
            shares = " ".join(f"{(plane == 0).mean():.2f}" for plane in codes)
            size = quantizer.branches * -(-count // 5)
        else:
            size = count
    if kind == "-" and roles.is_kernel_layer(plain):
        kind = "float"
        kernel_macs = _macs(plain, int(np.prod(_kernel(plain).shape)))
    tensor = wrappers.quantized_output(layer)
    activation = "-" if tensor is None else _range_text(tensor)
    weight_bytes = size if kind != "-" else 0
    return [
        plain.name,
        type(plain).__name__,
        kind,
        activation,
        parameters,
        shares,
        weight_bytes,
        kernel_macs,
        kernel_macs if ternary else 0,
    ]


def _kernel(layer: Any) -> Any:
    return layer.depthwise_kernel if isinstance(layer, keras.layers.DepthwiseConv2D) else layer.kernel


def _macs(layer: Any, weights: int) -> int:
    """Multiply-accumulates per picture: each weight is used once per output position."""
    if isinstance(layer, keras.layers.Dense):
        return weights
    shape = layer.output_shape
    positions = [d for d in shape[1:3]]
    return weights * int(np.prod(positions)) if None not in positions else 0


def _range_text(tensor: wrappers.QuantizedTensor) -> str:
    low, high = (float(end) for end in tensor.quantizer.range(tensor.variables))
    return f"{tensor.quantizer.bits} bit [{low:.4g}, {high:.4g}]"


def explain(q_model: keras.Model, print_fn: Any = print) -> Table:
    """Prints and returns, for every layer, what was inserted and why: no hidden transforms.

    Columns: layer, type, weights (quantizer), output (quantized here, or why not), note (what the layout transform
    did, why a layer has linear weights or was skipped).
    """
    wrappers.check_quantized(q_model, "explain")
    table = Table(["layer", "type", "weights", "output", "note"], title=f"{q_model.name}: what was inserted, and why")
    readers = graph.consumers(q_model)
    seen: set[int] = set()
    for node in graph.nodes(q_model):
        layer = node.layer
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        config = wrappers.config_of(layer)
        weights = ", ".join(f"{name}: {type(q).__name__}" for name, q in getattr(config, "weights", {}).items())
        plain = wrappers.inner(layer)
        table.add(
            plain.name,
            type(plain).__name__,
            weights or "-",
            _output_reason(node, readers),
            getattr(config, "note", "") or "",
        )
    if print_fn is not None:
        print_fn(str(table))
    return table


def _output_reason(node: Any, readers: dict[int, list[Any]]) -> str:
    layer = node.layer
    tensor = wrappers.quantized_output(layer)
    if tensor is not None:
        what = "quantized, fixed range" if tensor.quantizer.fixed else "quantized"
        return f"{what}: {_range_text(tensor)}"
    if _role(node) in (roles.SAME_RANGE, roles.IDENTITY):
        return "keeps its input's range"
    following = readers.get(id(tf.nest.flatten(node.outputs)[0]), [])
    if len(following) != 1 or not _ends_quantized(following[0], readers):
        return "not quantized"
    name = wrappers.inner(following[0].layer).name
    joins = _role(following[0]) == roles.JOIN
    return f"takes the range of {name}" if joins else f"fused into {name}"


def _role(node: Any) -> str:
    layer = node.layer
    return roles.plain_role(layer.layer) if isinstance(layer, QuantizeWrapper) else roles.role(node)


def _ends_quantized(node: Any, readers: dict[int, list[Any]]) -> bool:
    """Whether the fused chain or concatenation that goes through this node ends in a quantizer."""
    if wrappers.quantized_output(node.layer) is not None:
        return True
    following = readers.get(id(tf.nest.flatten(node.outputs)[0]), [])
    fuses = _role(node) in (roles.FOLD, roles.RELU, roles.JOIN)
    return fuses and len(following) == 1 and _ends_quantized(following[0], readers)
