"""Rewrites a float network into layers that have an integer form; each rewrite is exact in float.

SeparableConv2D, kernel layers with an activation, AveragePooling2D over the whole map, Add of three tensors, Average,
PReLU, Lambda                          -> `schemes.pieces`
Rescaling, Normalization, batch norm that folds into nothing -> `schemes.affine`
model input                            -> input, QuantizeTensor
operator on Keras tensors, Lambda      -> the same, QuantizeTensor where its output has a range of its own (tfmot's
                                          wrapper takes no function layers)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras_dbq.compat import keras
from keras_dbq.network import graph, roles
from keras_dbq.network.obstacles import Obstacle
from keras_dbq.schemes import pieces
from keras_dbq.schemes.affine import Affine
from keras_dbq.schemes.plan import Plan, Step
from keras_dbq.schemes.rewriting import Call, Origin, Rewriting, then

TENSOR_PREFIX = "quantize_"
# (rewriting, layer) -> what is called in its place; None where the rule is for other layers. The first one holds.
_RULES: tuple[Callable[[Rewriting, Any], Call | None], ...] = (
    pieces.split_separable,
    pieces.split_activation,
    pieces.mean_over_map,
    pieces.in_pairs,
    pieces.slopes,
    pieces.operators_one_by_one,
)


@dataclass
class Rewritten:
    """A model after the rewrites, {name of a new layer: where it comes from}, and what could not be rewritten."""

    model: keras.Model
    origin: dict[str, Origin]
    obstacles: list[Obstacle]


def rewrite(model: keras.Model, quantized: set[str]) -> Rewritten:
    """Applies the rewrites to the layers named in `quantized`; all layers are copied with their weights.

    Inputs of integers become inputs of float32, which hold the same numbers.

    Args:
      model: flat functional or Sequential model.
      quantized: names of the layers that are to be quantized; others are copied as they are.
    """
    rewriting = Rewriting(model, quantized)
    affine = Affine(rewriting)

    def replace(layer: keras.layers.Layer) -> Call:
        if layer.name not in quantized:
            return rewriting.copied(layer)
        found = affine(layer) or next((call for rule in _RULES if (call := rule(rewriting, layer))), None)
        return found or rewriting.copied(layer)

    result = graph.rebuild(model, replace, dtype="float32")
    rewriting.finish()
    return Rewritten(result, rewriting.origin, rewriting.obstacles)


def insert_quantizers(model: keras.Model, plan: Plan, quantize_tensor: Callable[[str, Step | None], Any]) -> Any:
    """The model with a QuantizeTensor behind its inputs and behind function layers, where the plan has one.

    Args:
      model: the model that was planned; its layers are shared, function layers copied.
      plan: of `schemes.plan`.
      quantize_tensor: (name of the input or function layer, Step or None) -> a QuantizeTensor layer.
    """
    carried = {s.layer.name: s for s in plan.steps if s.quantize_output and roles.is_function_layer(s.layer)}

    def replace(layer: keras.layers.Layer) -> Any:
        if not roles.is_function_layer(layer):
            return layer
        new, step = graph.clone(layer), carried.get(layer.name)  # Keras calls a function layer once
        return new if step is None else then(new, quantize_tensor(layer.name, step))

    def on_input(tensor: Any, name: str) -> Any:
        return quantize_tensor(name, None)(tensor) if name in plan.inputs else tensor

    return graph.rebuild(model, replace, on_input)
