"""Which tensors of two networks distillation compares: the logits, and hidden activations under the same names."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from keras_dbq import _checks
from keras_dbq.compat import keras, tf
from keras_dbq.network import graph, roles
from keras_dbq.wrapping import naming, wrappers

# What the outputs of a network may mean; the first two are those of a layer that it may end in.
ANSWERS = ("softmax", "sigmoid", "numbers")
_LAYERS = ANSWERS[:2]


class HiddenModels(NamedTuple):
    """Two models over the layers (and variables) of the ones given: x -> (outputs, [hidden activation, ...]).

    student, teacher: keras.Model.  names: the layers, one per hidden activation, in order of execution.
    """

    student: keras.Model
    teacher: keras.Model
    names: list[str]


def hidden_models(q_model: keras.Model, float_model: keras.Model, pattern: str = "*") -> HiddenModels:
    """Pairs the quantized activations of a model with the same layers' outputs in the float network.

    Args:
      q_model: quantized model.
      float_model: the network it was made of (layers are found by name).
      pattern: glob on the names of the layers.

    Raises:
      ValueError: no layer of that name in both, or a model of several outputs.
    """
    wrappers.check_quantized(q_model, "hidden_models")
    student_end, teacher_end = (_only_output(model, "hidden_models") for model in (q_model, float_model))
    pairs = _hidden_pairs(q_model, float_model, pattern)
    if not pairs:
        raise ValueError(
            f"hidden_models: expected layers matching {pattern!r} in both models, got none; the quantized model has to "
            "come from this float model, under the same layer names"
        )
    student, teacher = ([pair[i] for pair in pairs.values()] for i in (0, 1))
    return HiddenModels(
        keras.Model(q_model.inputs, [student_end, student]),
        keras.Model(float_model.inputs, [teacher_end, teacher]),
        list(pairs),
    )


def shares_hidden(q_model: keras.Model, float_model: keras.Model) -> bool:
    """Whether the two have hidden activations that `distill` can compare.

    Raises:
      ValueError: a model of several outputs.
    """
    for model in (q_model, float_model):
        _only_output(model, "distill")
    return bool(_hidden_pairs(logits_model(q_model), logits_model(float_model), "*"))


def _hidden_pairs(q_model: keras.Model, float_model: keras.Model, pattern: str) -> dict[str, tuple[Any, Any]]:
    """{layer: (quantized activation, float activation)} of equal shapes, outputs of the model left out."""
    outputs = {id(tensor) for tensor in tf.nest.flatten(q_model.outputs)}
    # Of this model's own graph: `layer.output` is that of the first model which called the layer (see `logits_model`).
    by_name = {node.layer.name: tf.nest.flatten(node.outputs)[0] for node in graph.nodes(float_model)}
    pairs: dict[str, tuple[Any, Any]] = {}
    for quantized in naming.quantized_outputs(q_model):
        name = naming.plain_name(quantized.node.layer)
        wanted = by_name.get(name)
        if id(quantized.tensor) in outputs or not fnmatchcase(name, pattern) or wanted is None:
            continue
        if wanted.shape == quantized.tensor.shape:
            pairs[name] = (quantized.tensor, wanted)
    return pairs


def logits_model(model: keras.Model) -> keras.Model:
    """The model without the softmax or sigmoid it ends in, if it does; over the same layers, or a copy of the last one.

    Raises:
      ValueError: a model of several outputs.
    """
    layer = _only_output(model, "logits_model")._keras_history.layer
    plain = wrappers.inner(layer)
    if answer(model) == "logits":
        return model
    if isinstance(plain, (keras.layers.Softmax, keras.layers.Activation)):
        node = next(n for n in graph.nodes(model) if n.layer is layer)
        return keras.Model(model.inputs, tf.nest.flatten(node.keras_inputs)[0])
    linear = layer.__class__.from_config({**layer.get_config(), "activation": "linear"})
    result = graph.rebuild(model, lambda other: linear if other is layer else other)
    linear.set_weights(layer.get_weights())
    return result


def answer(model: keras.Model) -> str:
    """What the model ends in: "softmax", "sigmoid" or "logits" (anything else)."""
    plain = wrappers.inner(_only_output(model, "distill")._keras_history.layer)
    if isinstance(plain, keras.layers.Softmax):
        return "softmax"
    activation = getattr(plain, "activation", None)
    name = None if activation is None else roles.activation_name(activation)
    return name if name in _LAYERS else "logits"


def checked_answers(answers: str | None, model: keras.Model) -> str:
    """What the outputs of a model, float or quantized, mean: "softmax", "sigmoid" or "numbers".

    Raises:
      ValueError: `answers` that do not fit how the model ends.
    """
    ends = answer(model) if len(model.outputs) == 1 else "several outputs"
    if answers is None:
        return ends if ends in _LAYERS else "numbers"
    _checks.one_of("answers", answers, ANSWERS)
    if answers != "numbers" and ends not in (answers, "logits"):
        raise ValueError(f"answers={answers!r}: expected a model that ends in {answers} or in logits, got {ends}")
    return answers


def _only_output(model: keras.Model, function: str) -> Any:
    if len(model.outputs) != 1:
        raise ValueError(
            f"{function}: expected a model with one output, got {len(model.outputs)} of {model.name!r}; build one with "
            "keras.Model(model.inputs, model.outputs[i]) for the output to learn, before quantizing"
        )
    return model.outputs[0]
