"""Learning from the float network, without labels: losses, hidden activations, and the training itself.

source: Goncharenko et al. (FAT, IWANN 2019): the distance of the logits, Adam, cosine annealing with a reset of the
optimizer's state at each cycle.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

from keras_dbq import _checks
from keras_dbq.compat import keras, tf
from keras_dbq.network import graph, roles
from keras_dbq.ops import thresholds as threshold_ops
from keras_dbq.quantizers.base import IntervalConstraint
from keras_dbq.training.callbacks import CosineAnnealing
from keras_dbq.wrapping import naming, wrappers

LOSSES = ("rmse", "smooth_l1", "kl")
PARTS = ("thresholds", "pointwise", "all")
_THRESHOLDS = ("factor", "width", "shift", "threshold_factor")


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


def logits_loss(kind: str, student: Any, teacher: Any) -> Any:
    """Distance of two batches of logits [N, C], scalar.

    "rmse": sqrt(mean d^2) (source: FAT's text). "smooth_l1": mean over the batch of sum sqrt(d^2 + 1e-5) (source: the
    authors' code). "kl": mean of KL(softmax(teacher) || softmax(student)).
    """
    _checks.one_of("loss", kind, LOSSES)
    teacher = tf.stop_gradient(teacher)
    difference = student - teacher
    if kind == "rmse":
        return tf.sqrt(tf.reduce_mean(tf.square(difference)) + 1e-12)
    if kind == "smooth_l1":
        return tf.reduce_mean(tf.reduce_sum(tf.sqrt(tf.square(difference) + 1e-5), -1))
    log_t, log_s = tf.nn.log_softmax(teacher), tf.nn.log_softmax(student)
    return tf.reduce_mean(tf.reduce_sum(tf.exp(log_t) * (log_t - log_s), -1))


def logits_model(model: keras.Model) -> keras.Model:
    """The model without the softmax it ends in, if it does; over the same layers, or a copy of the last one."""
    tensor = model.outputs[0]
    layer = tensor._keras_history.layer
    plain = wrappers.inner(layer)
    if isinstance(plain, keras.layers.Softmax) or (
        isinstance(plain, keras.layers.Activation) and roles.activation_name(plain.activation) == "softmax"
    ):
        node = next(n for n in graph.nodes(model) if n.layer is layer)
        return keras.Model(model.inputs, tf.nest.flatten(node.keras_inputs)[0])
    activation = getattr(plain, "activation", None)
    if activation is None or roles.activation_name(activation) != "softmax":
        return model
    linear = layer.__class__.from_config({**layer.get_config(), "activation": "linear"})
    result = graph.rebuild(model, lambda other: linear if other is layer else other)
    linear.set_weights(layer.get_weights())
    return result


class Distiller(keras.Model):
    """A quantized model that learns the float model's answers: `compile`, then `fit` on pictures alone.

    `train_step` is a plain one, so callbacks, `tf.distribute` and any `tf.data` pipeline work. Batch norm and dropout
    run as at inference.

    Args:
      q_model: quantized model; its variables are trained.
      float_model: the network it was made of.
      train: "thresholds" (of activations and linear weights, weights fixed), "pointwise" (one factor in [0.75, 1.25]
        per weight and bias of the quantized layers, thresholds fixed; source: FAT), or "all" trainable variables.
      loss: see `logits_loss`.
      hidden_weight: of `hidden_loss` beside it; 0 does not look at hidden activations.

    Raises:
      ValueError: an unknown name, or nothing to train.
    """

    def __init__(
        self,
        q_model: keras.Model,
        float_model: keras.Model,
        train: str = "thresholds",
        loss: str = "rmse",
        hidden_weight: float = 0.0,
    ):
        super().__init__(name="distiller")
        wrappers.check_quantized(q_model, "distill")
        self.kind = _checks.one_of("loss", loss, LOSSES)
        self.hidden_weight = _checks.number("hidden_weight", hidden_weight, 0.0, math.inf)
        self.student, self.teacher = logits_model(q_model), logits_model(float_model)
        if hidden_weight:  # one pass each for logits and hidden activations
            self.student, self.teacher, _ = hidden_models(self.student, self.teacher)
        self.q_model = q_model
        self.trained = trained_variables(q_model, train)
        self.pointwise = _Pointwise(self.trained) if train == "pointwise" else None
        self.loss_metric = keras.metrics.Mean(name="loss")

    @property
    def metrics(self) -> list[Any]:
        return [self.loss_metric]

    def call(self, inputs: Any, training: Any = None) -> Any:
        return self.q_model(inputs, training=False)

    def distance(self, x: Any) -> Any:
        """The loss on a batch of pictures; scalar."""
        student, teacher = self.student(x, training=False), self.teacher(x, training=False)
        if not self.hidden_weight:
            return logits_loss(self.kind, student, teacher)
        (student, student_hidden), (teacher, teacher_hidden) = student, teacher
        hidden = hidden_loss(student_hidden, teacher_hidden)
        return logits_loss(self.kind, student, teacher) + self.hidden_weight * hidden

    def train_step(self, data: Any) -> dict[str, Any]:
        x = keras.utils.unpack_x_y_sample_weight(data)[0]
        with wrappers.quantizer_flags(self.q_model, weights_training=True), tf.GradientTape() as tape:
            value = self.distance(x)
        gradients = tape.gradient(value, self.trained)
        if self.pointwise is None:
            self.optimizer.apply_gradients(zip(gradients, self.trained, strict=True))
        else:
            self.pointwise.step(self.optimizer, gradients)
        self.loss_metric.update_state(value)
        return {"loss": self.loss_metric.result()}

    def test_step(self, data: Any) -> dict[str, Any]:
        self.loss_metric.update_state(self.distance(keras.utils.unpack_x_y_sample_weight(data)[0]))
        return {"loss": self.loss_metric.result()}


class _Pointwise:
    """Factors f of variables w = f * w0, w0 what they were; f starts at 1 and is projected to its interval.

    derived: dL/df = w0 * dL/dw, so the network itself needs no factors.
    """

    def __init__(self, variables: list[tf.Variable]):
        self.variables = variables
        self.start = [tf.constant(v.numpy()) for v in variables]
        bounds = IntervalConstraint(*threshold_ops.POINTWISE)
        self.factors = [tf.Variable(tf.ones_like(w), constraint=bounds, name="pointwise_factor") for w in self.start]

    def step(self, optimizer: Any, gradients: list[Any]) -> None:
        """One update of the factors and of the variables."""
        scaled = [g * w for g, w in zip(gradients, self.start, strict=True)]
        optimizer.apply_gradients(zip(scaled, self.factors, strict=True))
        values = [f * w for f, w in zip(self.factors, self.start, strict=True)]

        def write(strategy: Any, values: list[Any]) -> None:
            for variable, value in zip(self.variables, values, strict=True):
                strategy.extended.update(variable, lambda v, new: v.assign(new), args=(value,))

        tf.distribute.get_replica_context().merge_call(write, args=(values,))


def trained_variables(q_model: keras.Model, train: str) -> list[tf.Variable]:
    """The variables that `train` names; see `Distiller`.

    Raises:
      ValueError: an unknown name, or the model has none of them.
    """
    _checks.one_of("train", train, PARTS)
    if train == "all":
        return q_model.trainable_variables
    trainable = {id(v) for v in q_model.trainable_variables}
    found = []
    if train == "pointwise":
        for layer in wrappers.all_layers(q_model):
            weights = [w.variable for w in wrappers.quantized_weights(layer)]
            bias = wrappers.bias(layer) if weights else None
            found += [v for v in (*weights, *([] if bias is None else [bias])) if id(v) in trainable]
        if not found:
            raise ValueError("distill: expected quantized weights that are not frozen in the model, got none")
        return found
    for layer in wrappers.all_layers(q_model):
        tensor = wrappers.quantized_output(layer)
        groups = [w.variables for w in wrappers.quantized_weights(layer)] + ([tensor.variables] if tensor else [])
        found += [g[name] for g in groups for name in _THRESHOLDS if name in g and id(g[name]) in trainable]
    if not found:
        raise ValueError(
            "distill: expected trained thresholds in the model, got none; quantize it with FATScheme or "
            'DBQScheme(activation_ranges="trained")'
        )
    return found


class _LastGoodState(keras.callbacks.Callback):
    """Puts back the weights of the last epoch whose loss was finite when a loss is not, says so, and stops."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.good = self.model.q_model.get_weights()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if np.isfinite((logs or {}).get("loss", 0.0)):
            return
        self.model.q_model.set_weights(self.good)
        self.model.stop_training = True
        warnings.warn(
            "distill: the loss is not finite; the weights of the last good epoch were put back and training stopped: "
            "lower the learning rate",
            stacklevel=2,
        )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self.model.stop_training:
            self.good = self.model.q_model.get_weights()


def distill(
    q_model: keras.Model,
    float_model: keras.Model,
    data: Any,
    *,
    train: str = "thresholds",
    loss: str = "rmse",
    hidden_weight: float = 0.0,
    epochs: int = 6,
    cycle_epochs: int | None = None,
    learning_rate: float = 1e-3,
    batch_size: int = 32,
    callbacks: Iterable[Any] = (),
    verbose: int = 1,
) -> dict[str, list[float]]:
    """Trains a quantized model, in place, to give the float model's answers; no labels.

    Args:
      q_model, float_model, train, loss, hidden_weight: see `Distiller`.
      data: float32 pictures [N, ...], or a tf.data.Dataset of batches of known length (labels, if any, are ignored).
      epochs: over the data.
      cycle_epochs: epochs of one cosine cycle, at whose end the rate is 0; None: one cycle.
      learning_rate: of Adam, at the start of each cycle.
      batch_size: of an array.
      callbacks: further Keras callbacks.
      verbose: as in `fit`: 0 nothing, 1 a progress bar, 2 a line an epoch.

    Returns:
      {"loss": one value per epoch}.

    Raises:
      ValueError: unknown names, nothing to train, a dataset of unknown length, or no pictures.
    """
    _checks.integer("epochs", epochs, 1, 2**31 - 1)
    cycle = _checks.integer("cycle_epochs", epochs if cycle_epochs is None else cycle_epochs, 1, epochs)
    _checks.integer("batch_size", batch_size, 1, 2**31 - 1)
    distiller = Distiller(q_model, float_model, train, loss, hidden_weight)
    if isinstance(data, tf.data.Dataset):
        steps, fit = int(data.cardinality()), {"x": data}
    else:
        x = np.asarray(data, np.float32)
        steps, fit = -(-len(x) // batch_size), {"x": x, "batch_size": batch_size}
    if steps < 1:
        raise ValueError(
            f"data: expected at least one batch of pictures, got a data set of {steps} batches (negative: unknown or "
            "endless; use take(n) and apply tf.data.experimental.assert_cardinality)"
        )
    distiller.compile(keras.optimizers.Adam(learning_rate, jit_compile=False))
    own = [CosineAnnealing(learning_rate, cycle * steps), _LastGoodState()]
    history = distiller.fit(**fit, epochs=epochs, callbacks=[*own, *callbacks], verbose=verbose)
    return history.history


__all__ = [
    "Distiller",
    "HiddenModels",
    "distill",
    "hidden_loss",
    "hidden_models",
    "logits_loss",
    "logits_model",
    "trained_variables",
]
