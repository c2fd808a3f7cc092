"""Rewrites a float network into layers that have an integer form; each rewrite is exact in float.

layers on sequences, TimeDistributed   -> `schemes.sequences`
Conv2DTranspose                        -> `schemes.transposed`
SeparableConv2D, kernel layers with an activation, AveragePooling2D over the whole map, Add of three tensors, Average,
PReLU, Lambda                          -> `schemes.pieces`
Rescaling, Normalization, batch norm that folds into nothing -> `schemes.affine`
model input                            -> input, QuantizeTensor
operator on Keras tensors, Lambda      -> the same, QuantizeTensor where its output has a range of its own (tfmot's
                                          wrapper takes no function layers)
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from keras_dbq.compat import keras
from keras_dbq.network import graph, roles
from keras_dbq.schemes import pieces
from keras_dbq.schemes.affine import Affine
from keras_dbq.schemes.plan import Plan, Step
from keras_dbq.schemes.rewriting import Call, Origin, Rewriting, then
from keras_dbq.schemes.sequences import Sequences
from keras_dbq.schemes.transposed import Transposed

TENSOR_PREFIX = "quantize_"
Rule = Callable[[keras.layers.Layer], Call | None]  # what is called in a layer's place; None: the rule is for others


@dataclass
class Rewritten:
    """A model after the rewrites, and {name of a new layer: where it comes from}."""

    model: keras.Model
    origin: dict[str, Origin]


def rewrite(model: keras.Model, quantized: set[str]) -> Rewritten:
    """Applies the rewrites to the layers named in `quantized`; all layers are copied with their weights.

    Inputs of integers become inputs of float32, which hold the same numbers.

    Args:
      model: flat functional or Sequential model.
      quantized: names of the layers that are to be quantized; others are copied as they are.
    """
    done = Rewritten(model, {})
    for make_rules in _PASSES:
        done = _one_pass(done, quantized, make_rules)
    return done


# (rewriting) -> its rules, of which the first that gives something holds; no rules: the pass is not needed.
# A pass sees what the ones before it made, so that a batch norm folds into a convolution that was none at first.
_PASSES: tuple[Callable[[Rewriting], list[Rule]], ...] = (
    lambda rewriting: [rules] if (rules := Sequences(rewriting)).needed else [],
    lambda rewriting: [rules] if (rules := Transposed(rewriting)).needed else [],
    lambda rewriting: [Affine(rewriting), *(partial(rule, rewriting) for rule in pieces.RULES)],
)


def _one_pass(before: Rewritten, quantized: set[str], make_rules: Callable[[Rewriting], list[Rule]]) -> Rewritten:
    wanted = quantized | {name for name, origin in before.origin.items() if origin.layer in quantized}
    rewriting = Rewriting(before.model, wanted)
    rules = make_rules(rewriting)
    if not rules:
        return before

    def replace(layer: keras.layers.Layer) -> Call:
        found = (rule(layer) for rule in rules if layer.name in wanted)
        return next((call for call in found if call is not None), None) or rewriting.copied(layer)

    result = graph.rebuild(before.model, replace, dtype="float32")
    rewriting.finish()
    return Rewritten(result, _composed(before.origin, rewriting.origin))


def _composed(first: dict[str, Origin], second: dict[str, Origin]) -> dict[str, Origin]:
    """Where layers come from after a second pass, in terms of the user's model."""
    found = dict(first)
    for name, origin in second.items():
        user = first.get(origin.layer)
        found[name] = origin if user is None else origin._replace(layer=user.layer, type=user.type)
    return found


def insert_quantizers(
    model: keras.Model,
    plan: Plan,
    quantize_tensor: Callable[[str, Step | None], Any],
    behind: Callable[[Step], Any] = lambda step: None,
) -> Any:
    """The model with a QuantizeTensor behind its inputs and behind layers without a wrapper, where the plan has one.

    Args:
      model: the model that was planned; its layers are shared, function layers copied.
      plan: of `schemes.plan`.
      quantize_tensor: (name of the input or layer, Step or None) -> a QuantizeTensor layer.
      behind: a further layer behind one whose output is quantized, or None.
    """
    carried = {s.layer.name: s for s in plan.steps if s.quantize_output and not roles.takes_wrapper(s.layer)}

    further = {s.layer.name: new for s in plan.steps if s.quantize_output and (new := behind(s)) is not None}

    def replace(layer: keras.layers.Layer) -> Any:
        step = carried.get(layer.name)
        new = graph.again(layer)
        layers = [new] if step is None else [new, quantize_tensor(layer.name, step)]
        layers += [further[layer.name]] if layer.name in further else []
        return then(*layers) if len(layers) > 1 else new

    def on_input(tensor: Any, name: str) -> Any:
        return quantize_tensor(name, None)(tensor) if name in plan.inputs else tensor

    return graph.rebuild(model, replace, on_input)
