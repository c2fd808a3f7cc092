"""The Keras model that `fit` trains: a quantized network that learns its float self's answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_dbq import _checks
from keras_dbq.compat import keras, tf
from keras_dbq.inspection.saturation import warn_of_saturation
from keras_dbq.keras3 import as_tf_keras
from keras_dbq.training import losses, outputs, parts
from keras_dbq.wrapping import wrappers

_LOOKED_AT = 256  # pictures that `fit` compares with the ranges of the inputs


class Distiller(keras.Model):
    """A quantized model that learns the float model's answers, with `compile` and `fit` as any Keras model.

    loss = (1 - label_weight) * D(student, teacher) + hidden_weight * hidden_loss + label_weight * cross-entropy, with D
    the distance of the logits named by `loss` (`logits_loss`), for "kl" T^2 * KL at temperature T (source: Hinton et
    al., arXiv 1503.02531; source of the others: FAT). Regularizers of layers are not added.

    `fit` takes pictures x, or (x, labels), as arrays or a tf.data.Dataset. Labels are looked at where label_weight is
    above 0, and by metrics given to `compile`, which see the student's logits (probabilities, where the network ends
    in a sigmoid). Saved, as a whole or its weights alone, it is its `q_model`; a checkpoint or backup of the training
    does not hold the float model.

    Args:
      q_model: quantized model of one output; its variables are trained.
      float_model: the network it was made of, of tf_keras or of Keras 3.
      train: "thresholds" (of activations and linear weights, weights fixed), "pointwise" (one factor in [0.75, 1.25]
        per weight and bias of the quantized layers, thresholds fixed; source: FAT), or "all" trainable variables.
      loss: "rmse", "smooth_l1" or "kl"; see `logits_loss`.
      hidden_weight: of `hidden_loss` beside it; 0 does not look at hidden activations.
      label_weight: of the labels against the float model's answers, 0 to 1.
      temperature: T of loss="kl".
      fixed_statistics: batch norm, dropout and ranges of activations as at inference, weights in their training
        forward. False: all as in training, so batch norm's statistics and moving averages of ranges follow.

    Raises:
      ValueError: an unknown name, nothing to train, several outputs, or a temperature that the loss does not have.
    """

    def __init__(
        self,
        q_model: keras.Model,
        float_model: keras.Model,
        train: str = "thresholds",
        loss: str = "rmse",
        hidden_weight: float = 0.0,
        *,
        label_weight: float = 0.0,
        temperature: float = 1.0,
        fixed_statistics: bool = True,
    ):
        super().__init__(name="distiller")
        wrappers.check_quantized(q_model, "distill")
        self.kind = _checks.one_of("loss", loss, losses.LOSSES)
        self.hidden_weight = _checks.number("hidden_weight", hidden_weight, 0.0, math.inf)
        self.label_weight = _checks.number("label_weight", label_weight, 0.0, 1.0)
        self.temperature = losses.check_temperature(loss, temperature)
        self.fixed_statistics = _checks.boolean("fixed_statistics", fixed_statistics)
        float_model = as_tf_keras(float_model)
        self.answer = outputs.answer(float_model)
        self.q_model = q_model
        self._keep_untracked(trained=parts.trained_variables(q_model, train))
        self._keep_untracked(**_compared(q_model, float_model, bool(hidden_weight)))
        self._check_logits()
        self.pointwise = parts.PointwiseFactors(self.trained) if train == "pointwise" else None
        self.loss_metric = keras.metrics.Mean(name="loss")
        self.built = True  # all variables are there

    def _keep_untracked(self, **attributes: Any) -> None:
        """Sets attributes past Keras, which would list their variables as its own and write them into checkpoints."""
        for name, value in attributes.items():
            object.__setattr__(self, name, value)

    def _leave_other_kernels(self, weights: list[wrappers.QuantizedWeight]) -> None:
        """Quantized kernels beside these no longer train. To be called before the optimizer is chosen."""
        kernels = {
            id(w.variable) for layer in wrappers.all_layers(self.q_model) for w in wrappers.quantized_weights(layer)
        }
        left = kernels - {id(weight.variable) for weight in weights}
        self._keep_untracked(trained=[variable for variable in self.trained if id(variable) not in left])

    def _check_logits(self) -> None:
        shapes = [tf.nest.flatten(model.outputs)[0].shape for model in (self.student, self.teacher)]
        if shapes[0][1:] != shapes[1][1:]:
            raise ValueError(
                f"distill: expected two models of the same output shape, got {shapes[0]} and {shapes[1]}; float_model "
                "has to be the network that the quantized model was made of"
            )
        if shapes[0][-1] == 1 and self.answer != "sigmoid" and (self.kind == "kl" or self.label_weight):
            raise ValueError(
                "distill: expected several logits for loss='kl' and for labels, got one; end the network in a sigmoid, "
                "or choose loss='rmse' or 'smooth_l1' without labels"
            )

    @property
    def weights(self) -> list[Any]:
        """All variables of the quantized model and of the factors."""
        return [*self.q_model.weights, *([] if self.pointwise is None else self.pointwise.weights)]

    @property
    def trainable_weights(self) -> list[Any]:
        """What the optimizer moves: the trained variables, or their factors."""
        return self.trained if self.pointwise is None else list(self.pointwise.factors)

    @property
    def non_trainable_weights(self) -> list[Any]:
        """All others of `weights`."""
        moved = {id(v) for v in self.trainable_weights}
        return [v for v in self.weights if id(v) not in moved]

    @property
    def metrics(self) -> list[Any]:
        """The loss, and the compiled metrics once they have seen labels."""
        return [self.loss_metric, *(self.compiled_metrics.metrics if self._is_compiled else [])]

    def compile(self, optimizer: Any, metrics: Any = None, **options: Any) -> None:
        """Keras' `compile` without a loss, which the Distiller has: optimizer, metrics, jit_compile and the others.

        Raises:
          ValueError: a loss was given.
        """
        for name in ("loss", "loss_weights"):
            if options.get(name) is not None:
                raise ValueError(
                    f"Distiller.compile: expected no {name}, got {options[name]!r}; the loss is chosen with the "
                    "Distiller's own arguments loss, hidden_weight and label_weight"
                )
        super().compile(optimizer, metrics=metrics, **options)

    def fit(self, x: Any = None, y: Any = None, *args: Any, **options: Any) -> Any:
        """Keras' `fit`; warns where arrays lie outside of the ranges that the model's inputs have.

        Raises:
          ValueError: label_weight is above 0 and there are no labels.
        """
        self._check_labels("fit", _has_labels(x, y))
        if isinstance(x, (np.ndarray, list)):
            warn_of_saturation("fit", self.student, [a[:_LOOKED_AT] for a in (x if isinstance(x, list) else [x])])
        validation = options.get("validation_data")
        if validation is not None:
            given = validation if isinstance(validation, (tuple, list)) else (validation,)
            self._check_labels("fit's validation_data", _has_labels(*(*given, None)[:2]))
        return super().fit(x, y, *args, **options)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **options: Any) -> Any:
        """Keras' `evaluate`, of the model as at inference.

        Raises:
          ValueError: label_weight is above 0 and there are no labels.
        """
        self._check_labels("evaluate", _has_labels(x, y))
        return super().evaluate(x, y, *args, **options)

    def _check_labels(self, where: str, given: bool | None) -> None:
        if self.label_weight and given is False:
            raise ValueError(
                f"{where}: expected batches (x, labels) with label_weight={self.label_weight}, got pictures alone; "
                "give labels, or leave label_weight at 0"
            )

    def call(self, inputs: Any, training: Any = None) -> Any:
        return self.q_model(inputs, training=training)

    def distance(self, x: Any) -> Any:
        """The loss on a batch of pictures without labels, as at inference; scalar."""
        return self.loss_and_logits(x)[0]

    def loss_and_logits(self, x: Any, labels: Any = None, training: bool = False) -> tuple[Any, Any]:
        """The loss on a batch, a scalar, and the student's logits [N, C].

        Raises:
          ValueError: label_weight is above 0 and there are no labels.
        """
        self._check_labels("Distiller", labels is not None)
        student, student_hidden = self._logits_and_hidden(self.student(x, training=training))
        total = 0.0
        if self.label_weight:
            total += self.label_weight * losses.label_loss(labels, student, self.answer)
        if self.label_weight < 1 or self.hidden_weight:
            teacher, teacher_hidden = self._logits_and_hidden(self.teacher(x, training=False))
        if self.label_weight < 1:
            distance = losses.logits_loss(self.kind, student, teacher, self.temperature, self.answer)
            total += (1 - self.label_weight) * distance
        if self.hidden_weight:
            total += self.hidden_weight * losses.hidden_loss(student_hidden, teacher_hidden)
        return total, student

    def _logits_and_hidden(self, result: Any) -> tuple[Any, list[Any]]:
        return (result[0], result[1]) if self.hidden_weight else (result, [])

    def train_step(self, data: Any) -> dict[str, Any]:
        x, labels = _unpacked(data)
        scaling = getattr(self.optimizer, "get_scaled_loss", lambda value: value)  # of float16, else there is none
        with wrappers.quantizer_flags(self.q_model, weights_training=True), tf.GradientTape() as tape:
            value, logits = self.loss_and_logits(x, labels, training=not self.fixed_statistics)
            # Every replica has the loss of the whole batch, and the optimizer adds up their gradients.
            scaled = scaling(value / self.distribute_strategy.num_replicas_in_sync)
        gradients = tape.gradient(scaled, self.trained)
        gradients = getattr(self.optimizer, "get_unscaled_gradients", lambda g: g)(gradients)
        if self.pointwise is None:
            self.optimizer.apply_gradients(zip(gradients, self.trained, strict=True))
        else:
            self.pointwise.step(self.optimizer, gradients)
        return self._measured(value, labels, logits)

    def test_step(self, data: Any) -> dict[str, Any]:
        x, labels = _unpacked(data)
        value, logits = self.loss_and_logits(x, labels)
        return self._measured(value, labels, logits)

    def _measured(self, value: Any, labels: Any, logits: Any) -> dict[str, Any]:
        """Updates the metrics, those of `compile` where there are labels, and gives their values."""
        self.loss_metric.update_state(value)
        if labels is None:
            return {"loss": self.loss_metric.result()}
        logits = tf.cast(logits, tf.float32)
        self.compiled_metrics.update_state(labels, tf.sigmoid(logits) if self.answer == "sigmoid" else logits)
        return self.get_metrics_result()

    def save(self, filepath: Any, *args: Any, **options: Any) -> None:
        """Saves the quantized model, as its own `save` does."""
        self.q_model.save(filepath, *args, **options)

    def save_weights(self, filepath: Any, *args: Any, **options: Any) -> None:
        """Saves the quantized model's weights, as its own `save_weights` does."""
        self.q_model.save_weights(filepath, *args, **options)

    def load_weights(self, filepath: Any, *args: Any, **options: Any) -> Any:
        """Loads what `save_weights` saved into the quantized model.

        Raises:
          ValueError: train="pointwise", whose factors are not in that file.
        """
        if self.pointwise is not None:
            raise ValueError(
                "Distiller.load_weights: expected train='thresholds' or 'all', got 'pointwise', whose factors are not "
                "in the file; load into q_model before making the Distiller, or use keras.callbacks.BackupAndRestore"
            )
        return self.q_model.load_weights(filepath, *args, **options)


def _compared(q_model: keras.Model, float_model: keras.Model, hidden: bool) -> dict[str, keras.Model]:
    """The models that a step calls: logits, and with `hidden` in the same pass (logits, hidden activations)."""
    student, teacher = outputs.logits_model(q_model), outputs.logits_model(float_model)
    if hidden:
        student, teacher, _ = outputs.hidden_models(student, teacher)
    return {"student": student, "teacher": teacher}


def _has_labels(x: Any, y: Any) -> bool | None:
    """Whether what `fit` was given has labels; None where only the first batch will tell."""
    if y is not None:
        return True
    spec = getattr(x, "element_spec", None)
    if spec is not None:
        return isinstance(spec, (tuple, list)) and len(spec) > 1
    return None if x is None or not hasattr(x, "shape") else False


def _unpacked(data: Any) -> tuple[Any, Any]:
    """(x, labels or None) of a batch."""
    x, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    if weights is not None:
        raise ValueError("Distiller: expected batches x or (x, labels), got sample weights too; leave them out")
    return x, labels
