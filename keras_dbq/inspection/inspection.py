"""Looking at a quantized model and changing what trains: weights, tables, freeze, strip."""

from typing import Any

import numpy as np

from keras_dbq._table import Table
from keras_dbq.compat import QuantizeWrapper, keras, tf
from keras_dbq.network import graph, roles
from keras_dbq.quantizers import IntegerWeights, TernaryWeights
from keras_dbq.wrapping import wrappers
from keras_dbq.wrapping.layers import QuantizeTensor
from keras_dbq.wrapping.wrappers import TernaryBranchQuantizer


def _only_weight(layer: keras.layers.Layer, function: str, kind: type | None = None) -> wrappers.QuantizedWeight:
    for weight in wrappers.quantized_weights(layer):
        if kind is None or isinstance(weight.quantizer, kind):
            return weight
    what = "ternary weights" if kind is TernaryBranchQuantizer else "quantized weights"
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
    weight = _only_weight(layer, "get_ternary_weights", TernaryBranchQuantizer)
    return weight.quantizer.ternary_weights(weight.variable.numpy(), weight.variables)


def integer_weights(layer: keras.layers.Layer) -> IntegerWeights:
    """The quantized kernel of a wrapper as integers and a scale per channel (before batch norm is folded in).

    Raises:
      ValueError: the layer has no quantized weights.
    """
    weight = _only_weight(layer, "integer_weights")
    return weight.quantizer.integer_weights(weight.variable.numpy(), weight.variables)


def set_temperature(q_model: keras.Model, temperature: float) -> None:
    """Sets T of every ternary layer; the next step in `smooth` or `hard` mode uses it.

    Raises:
      ValueError: temperature not above zero, or the model has no quantized layer.
    """
    if not float(temperature) > 0:
        raise ValueError(f"set_temperature: expected a temperature above 0, got {temperature!r}")
    for layer in wrappers.all_layers(q_model):
        for weight in wrappers.quantized_weights(layer):
            if "temperature" in weight.variables:
                weight.variables["temperature"].assign(temperature)


def forward_modes(q_model: keras.Model) -> set[str]:
    """The forward passes that the ternary layers train with; empty without ternary layers."""
    weights = (w for layer in wrappers.all_layers(q_model) for w in wrappers.quantized_weights(layer))
    return {w.quantizer.forward for w in weights if isinstance(w.quantizer, TernaryBranchQuantizer)}


def sparsity(q_model: keras.Model) -> list[float]:
    """Share of zero codes per branch over all ternary layers: [branch 1, branch 2, ...]."""
    zeros: dict[int, int] = {}
    total: dict[int, int] = {}
    for layer in wrappers.all_layers(q_model):
        for weight in wrappers.quantized_weights(layer):
            if isinstance(weight.quantizer, TernaryBranchQuantizer):
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
        if isinstance(quantizer, TernaryBranchQuantizer):
            ternary = True
            codes = get_ternary_weights(layer).codes
            kind = f"{quantizer.branches} ternary branch{'es' if quantizer.branches > 1 else ''}"
            shares = " ".join(f"{(plane == 0).mean():.2f}" for plane in codes)
            size = quantizer.branches * -(-count // 5)
        else:
            kind = f"{getattr(quantizer, 'bits', '?')} bit"
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


def freeze(
    q_model: keras.Model,
    weights: bool = False,
    scales: bool = False,
    ranges: bool = False,
    batch_norm: bool = False,
    layers: Any = None,
) -> keras.Model:
    """Freezes parts of the quantized layers, for real: they leave `trainable_weights` and no step changes them.

    Args:
      weights: kernels (and biases) of quantized layers.
      scales: branch scales, thresholds, pre and post scales.
      ranges: activation ranges, and the factors that train them.
      batch_norm: batch norm layers run with their moving statistics and do not train.
      layers: names of (plain) layers to freeze in; None for all.

    Returns:
      The same model, changed in place; compile it again before fit. Freezing survives saving and loading.

    Raises:
      ValueError: nothing chosen, or an unknown layer name.
    """
    wrappers.check_quantized(q_model, "freeze")
    if not (weights or scales or ranges or batch_norm):
        raise ValueError("freeze: expected at least one of weights, scales, ranges, batch_norm to be True, got none")
    names = {wrappers.inner(layer).name for layer in wrappers.all_layers(q_model)}
    chosen = names if layers is None else set([layers] if isinstance(layers, str) else layers)
    if chosen - names:
        raise ValueError(f"freeze: expected names of layers, got unknown {sorted(chosen - names)}")
    for layer in wrappers.all_layers(q_model):
        plain = wrappers.inner(layer)
        if plain.name not in chosen:
            continue
        if batch_norm and isinstance(plain, keras.layers.BatchNormalization):
            layer.trainable = False
        for weight in wrappers.quantized_weights(layer):
            parts = [part for part, on in (("weights", weights), ("scales", scales)) if on]
            weight.quantizer.frozen = tuple(sorted({*weight.quantizer.frozen, *parts}))
            weight.quantizer.apply_freeze(layer, weight.variable, weight.variables)
        tensor = wrappers.quantized_output(layer)
        if ranges and tensor is not None:
            tensor.quantizer.frozen = ("ranges",)
            tensor.quantizer.apply_freeze(layer, tensor.variables)
    _forget_compiled(q_model)
    return q_model


def _forget_compiled(model: keras.Model) -> None:
    """Traced functions hold the old choice of trainable variables."""
    model.train_function = model.test_function = model.predict_function = None


def strip(q_model: keras.Model) -> keras.Model:
    """A plain Keras model: the inner layers with their quantized weights, no quantizers, nothing of tfmot or ours.

    Activations are no longer quantized; batch norm stays a layer of its own.
    """
    wrappers.check_quantized(q_model, "strip")
    pairs: list[tuple[Any, Any]] = []

    def replace(layer: keras.layers.Layer) -> Any:
        if isinstance(layer, QuantizeTensor):
            return lambda x, **_: x
        new = graph.clone(wrappers.inner(layer))
        pairs.append((layer, new))
        return new

    plain = graph.rebuild(q_model, replace, name=q_model.name)
    for old, new in pairs:
        new.set_weights(quantized_values(old))
    return plain


def quantized_values(layer: keras.layers.Layer) -> list[np.ndarray]:
    """Weights of the (inner) layer in a plain layer's order, the kernel with the values that the file will hold.

    The wrapper has replaced `layer.kernel` by a tensor, so the inner layer no longer lists it; in a plain layer the
    kernel comes first, then the bias.
    """
    quantized = wrappers.quantized_weights(layer)
    variables = {id(weight.variable) for weight in quantized}
    kernels = [weight.quantizer(weight.variable, False, weight.variables).numpy() for weight in quantized]
    return kernels + [v.numpy() for v in wrappers.inner(layer).weights if id(v) not in variables]
