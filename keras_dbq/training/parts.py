"""Which variables of a quantized model train, and weights that train as one factor each."""

from __future__ import annotations

from typing import Any

from keras_dbq import _checks
from keras_dbq.compat import keras, tf
from keras_dbq.ops import thresholds as threshold_ops
from keras_dbq.quantizers.base import IntervalConstraint
from keras_dbq.wrapping import wrappers

PARTS = ("thresholds", "pointwise", "all")
_THRESHOLDS = ("factor", "width", "shift", "threshold_factor")


def trained_variables(q_model: keras.Model, train: str) -> list[tf.Variable]:
    """The variables that `train` names; see `Distiller`.

    Raises:
      ValueError: an unknown name, or the model has none of them.
    """
    _checks.one_of("train", train, PARTS)
    if train == "all":
        return q_model.trainable_variables
    return _pointwise_variables(q_model) if train == "pointwise" else _threshold_variables(q_model)


def _pointwise_variables(q_model: keras.Model) -> list[tf.Variable]:
    """Kernels and biases of the quantized layers."""
    trainable, found = {id(v) for v in q_model.trainable_variables}, []
    for layer in wrappers.all_layers(q_model):
        weights = [w.variable for w in wrappers.quantized_weights(layer)]
        bias = wrappers.bias(layer) if weights else None
        found += [v for v in (*weights, *([] if bias is None else [bias])) if id(v) in trainable]
    if not found:
        raise ValueError("distill: expected quantized weights that are not frozen in the model, got none")
    return found


def has_thresholds(q_model: keras.Model) -> bool:
    """Whether a model has trained thresholds that are not frozen."""
    return bool(_thresholds(q_model))


def _thresholds(q_model: keras.Model) -> list[tf.Variable]:
    trainable, found = {id(v) for v in q_model.trainable_variables}, []
    for layer in wrappers.all_layers(q_model):
        tensor = wrappers.quantized_output(layer)
        groups = [w.variables for w in wrappers.quantized_weights(layer)] + ([tensor.variables] if tensor else [])
        found += [g[name] for g in groups for name in _THRESHOLDS if name in g and id(g[name]) in trainable]
    return found


def _threshold_variables(q_model: keras.Model) -> list[tf.Variable]:
    """Factors of thresholds and ranges."""
    found = _thresholds(q_model)
    if not found:
        raise ValueError(
            "distill: expected trained thresholds in the model, got none; quantize it with FATScheme or "
            'DBQScheme(activation_ranges="trained")'
        )
    return found


class PointwiseFactors(keras.layers.Layer):
    """Factors f of variables w = f * w0, w0 what they were; f starts at 1 and is projected to its interval.

    derived: dL/df = w0 * dL/dw, so the network itself needs no factors. source of the interval: FAT. f and w0 are
    weights of this layer, so that a backup of the training holds them.
    """

    def __init__(self, variables: list[tf.Variable]):
        super().__init__(name="pointwise", dtype="float32")
        object.__setattr__(self, "variables_of_model", variables)  # the model's own, not tracked here again
        self.factors, self.start = [], []
        bounds = IntervalConstraint(*threshold_ops.POINTWISE)
        for i, variable in enumerate(variables):
            value = keras.initializers.Constant(variable.numpy())
            self.factors.append(self.add_weight(f"factor_{i}", variable.shape, initializer="ones", constraint=bounds))
            self.start.append(self.add_weight(f"start_{i}", variable.shape, initializer=value, trainable=False))
        self.built = True

    def step(self, optimizer: Any, gradients: list[Any]) -> None:
        """One update of the factors and of the variables; gradients: dL/dw."""
        scaled = [None if g is None else g * w for g, w in zip(gradients, self.start, strict=True)]
        optimizer.apply_gradients(zip(scaled, self.factors, strict=True))
        for variable, factor, start in zip(self.variables_of_model, self.factors, self.start, strict=True):
            variable.assign(factor * start)  # the same on every replica, as the factors are
