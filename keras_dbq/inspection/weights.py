"""The quantized weights of a model: codes, scales, integers, and how many codes are zero."""

from collections.abc import Iterator

import numpy as np

from keras_dbq.compat import keras
from keras_dbq.quantizers import IntegerWeights, TernaryWeights
from keras_dbq.wrapping import wrappers


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


def _only_weight(layer: keras.layers.Layer, function: str, ternary: bool = False) -> wrappers.QuantizedWeight:
    for weight in wrappers.quantized_weights(layer):
        if not ternary or weight.quantizer.branches:
            return weight
    what = "ternary weights" if ternary else "quantized weights"
    raise ValueError(
        f"{function}: layer {getattr(layer, 'name', layer)!r} has no {what}; keras_dbq.summary(q_model) lists the "
        "layers that have"
    )


def forward_modes(q_model: keras.Model) -> set[str]:
    """The forward passes that the ternary layers train with; empty without ternary layers."""
    return {weight.quantizer.forward for weight in _ternary(q_model)}


def sparsity(q_model: keras.Model) -> list[float]:
    """Share of zero codes per branch over all ternary layers: [branch 1, branch 2, ...]."""
    zeros: dict[int, int] = {}
    total: dict[int, int] = {}
    for weight in _ternary(q_model):
        codes = weight.quantizer.ternary_weights(weight.variable.numpy(), weight.variables).codes
        for branch, plane in enumerate(codes):
            zeros[branch] = zeros.get(branch, 0) + int(np.count_nonzero(plane == 0))
            total[branch] = total.get(branch, 0) + plane.size
    return [zeros[b] / total[b] for b in sorted(total)]


def _ternary(q_model: keras.Model) -> Iterator[wrappers.QuantizedWeight]:
    for layer in wrappers.all_layers(q_model):
        yield from (weight for weight in wrappers.quantized_weights(layer) if weight.quantizer.branches)
