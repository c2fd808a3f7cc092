"""Learning from the float network: which hidden activations of it a quantized model has too."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from keras_dbq import wrappers
from keras_dbq.compat import keras, tf
from keras_dbq.export import naming


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
      ValueError: no layer of that name in both.
    """
    wrappers.check_quantized(q_model, "hidden_models")
    outputs = {id(tensor) for tensor in tf.nest.flatten(q_model.outputs)}
    by_name = {layer.name: layer for layer in float_model.layers}
    pairs: dict[str, tuple[Any, Any]] = {}
    for quantized in naming.quantized_outputs(q_model):
        name = naming.plain_name(quantized.node.layer)
        layer = by_name.get(name)
        if id(quantized.tensor) in outputs or not fnmatchcase(name, pattern) or layer is None:
            continue
        if isinstance(layer, keras.layers.InputLayer) or layer.output.shape != quantized.tensor.shape:
            continue
        pairs[name] = (quantized.tensor, layer.output)
    if not pairs:
        raise ValueError(
            f"hidden_models: expected layers matching {pattern!r} in both models, got none; the quantized model has to "
            "come from this float model, under the same layer names"
        )
    student, teacher = ([pair[i] for pair in pairs.values()] for i in (0, 1))
    return HiddenModels(
        keras.Model(q_model.inputs, [q_model.outputs[0], student]),
        keras.Model(float_model.inputs, [float_model.outputs[0], teacher]),
        list(pairs),
    )


def hidden_loss(student: list[Any], teacher: list[Any]) -> Any:
    """Mean over the layers of the relative squared error ||s - t||^2 / ||t||^2; scalar."""
    errors = []
    for s, t in zip(student, teacher, strict=True):
        t = tf.stop_gradient(t)
        errors.append(tf.reduce_sum(tf.math.squared_difference(s, t)) / (tf.reduce_sum(tf.square(t)) + 1e-12))
    return tf.add_n(errors) / len(errors)
