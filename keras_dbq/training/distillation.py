"""`distill`: the float model's answers learnt in one call; and the parts of 0.1's module of this name.

source: Goncharenko et al. (FAT, IWANN 2019): the distance of the logits, Adam, cosine annealing with a reset of the
optimizer's state at each cycle.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from keras_dbq import _checks
from keras_dbq.compat import keras, tf
from keras_dbq.keras3 import as_tf_keras
from keras_dbq.training.callbacks import BestEpoch, CosineAnnealing, LastGoodEpoch
from keras_dbq.training.distiller import Distiller
from keras_dbq.training.losses import LOSSES, hidden_loss, logits_loss
from keras_dbq.training.outputs import HiddenModels, hidden_models, logits_model
from keras_dbq.training.parts import PARTS, has_thresholds, trained_variables
from keras_dbq.training.scaled_adam import ScaledAdam, units
from keras_dbq.wrapping import wrappers


class Settings(NamedTuple):
    """What `distill` does where nothing is said."""

    loss: str
    hidden_weight: float
    learning_rate: float


# choice, by what is trained: measured in examples/thresholds (thresholds, point-wise); all: `ScaledAdam`, see
# docs/quantization.md (32).
DEFAULTS = {
    "thresholds": Settings("rmse", 0.0, 1e-3),
    "pointwise": Settings("rmse", 0.0, 1e-3),
    "all": Settings("kl", 0.0, 3e-4),
}
HELD_BACK = 0.1
_FEWEST_HELD_BACK = 8  # fewer pictures say too little: the trained ones choose the epoch


def distill(
    q_model: keras.Model,
    float_model: keras.Model,
    data: Any,
    *,
    train: str | None = None,
    loss: str | None = None,
    hidden_weight: float | None = None,
    epochs: int = 6,
    cycle_epochs: int | None = None,
    learning_rate: float | None = None,
    batch_size: int = 32,
    seed: int = 0,
    validation_data: Any = None,
    keep_best: bool = True,
    callbacks: Iterable[Any] = (),
    verbose: int = 1,
) -> dict[str, list[float]]:
    """Trains a quantized model, in place, to give the float model's answers; no labels.

    The model ends with the weights of the epoch that is nearest to the float model on pictures that are not trained on,
    or with those that it came with, where no epoch is nearer: it never gets worse by this measure.

    Args:
      q_model, float_model: see `Distiller`.
      data: float32 pictures [N, ...], or a tf.data.Dataset of batches of known length (labels, if any, are ignored).
      train: see `Distiller`; None: "thresholds" where the model has trained ones, else "all".
      loss, hidden_weight: see `Distiller`; None: `DEFAULTS` of what is trained.
      epochs: over the data.
      cycle_epochs: epochs of one cosine cycle, at whose end the rate is 0; None: one cycle.
      learning_rate: of Adam, at the start of each cycle; with train="all" in units of each channel's deviation
        (`ScaledAdam`), because kernels with a folded batch norm differ from channel to channel by orders of magnitude.
        None: `DEFAULTS` of what is trained.
      batch_size: of an array.
      seed: of the order of an array's pictures, which is drawn anew for every epoch; the same seed gives the same
        weights, whatever ran before in the process. A data set has the order that it has.
      validation_data: pictures that choose the epoch, an array or a data set; None: the last tenth of an array, which
        is then not trained on (where that is under 8 pictures, all choose). Of a data set none are kept back.
      keep_best: False ends with the last epoch, and trains on all of `data`.
      callbacks: further Keras callbacks.
      verbose: as in `fit`: 0 nothing, 1 a progress bar, 2 a line an epoch.

    Returns:
      {"loss": one value per epoch, and where pictures chose the epoch "val_loss": their loss after each}.

    Raises:
      ValueError: unknown names, nothing to train, a dataset of unknown length, or no pictures.
    """
    _checks.integer("epochs", epochs, 1, 2**31 - 1)
    cycle = _checks.integer("cycle_epochs", epochs if cycle_epochs is None else cycle_epochs, 1, epochs)
    _checks.integer("batch_size", batch_size, 1, 2**31 - 1)
    _checks.integer("seed", seed, -(2**31), 2**31 - 1)
    _checks.boolean("keep_best", keep_best)
    train = default_part(q_model) if train is None else _checks.one_of("train", train, PARTS)
    float_model = as_tf_keras(float_model)
    settings = _settings(train, loss, hidden_weight, learning_rate)
    distiller = Distiller(q_model, float_model, train, settings.loss, settings.hidden_weight)
    distiller.compile(_optimizer(distiller, train, settings.learning_rate))
    data, chosen_by = _divided(data, validation_data, keep_best)
    if not isinstance(data, tf.data.Dataset):
        data = _shuffled(data, batch_size, seed, distiller.optimizer.iterations)
    steps = int(data.cardinality())
    if steps < 1:
        raise ValueError(
            f"data: expected at least one batch of pictures, got a data set of {steps} batches (negative: unknown or "
            "endless; use take(n) and apply tf.data.experimental.assert_cardinality)"
        )
    own = [CosineAnnealing(settings.learning_rate, cycle * steps), LastGoodEpoch()]
    best = None if chosen_by is None else BestEpoch(_in_batches(chosen_by, batch_size), distiller)
    extra = [] if best is None else [best]
    return distiller.fit(data, epochs=epochs, callbacks=[*own, *extra, *callbacks], verbose=verbose).history


def default_part(q_model: keras.Model) -> str:
    """What `distill` trains where nothing is said: trained thresholds where the model has some, else everything."""
    return "thresholds" if has_thresholds(q_model) else "all"


def _optimizer(distiller: Distiller, train: str, learning_rate: float) -> keras.optimizers.Optimizer:
    if train != "all":  # factors near 1
        return keras.optimizers.Adam(learning_rate, jit_compile=False)
    variables = distiller.trained
    return ScaledAdam(variables, units(wrappers.all_layers(distiller.q_model), variables), learning_rate)


def _settings(train: str, loss: str | None, hidden_weight: float | None, learning_rate: float | None) -> Settings:
    default = DEFAULTS[train]
    return Settings(
        default.loss if loss is None else loss,
        default.hidden_weight if hidden_weight is None else hidden_weight,
        default.learning_rate if learning_rate is None else learning_rate,
    )


def _divided(data: Any, validation_data: Any, keep_best: bool) -> tuple[Any, Any]:
    """(what is trained on, what chooses the epoch or None)."""
    if not isinstance(data, tf.data.Dataset):
        data = np.asarray(data, np.float32)
    if not keep_best or validation_data is not None or isinstance(data, tf.data.Dataset):
        return data, validation_data if keep_best else None
    held_back = int(HELD_BACK * len(data))
    if held_back < _FEWEST_HELD_BACK:
        return data, data if len(data) else None
    return data[:-held_back], data[-held_back:]


def _in_batches(pictures: Any, batch_size: int) -> tf.data.Dataset:
    if isinstance(pictures, tf.data.Dataset):
        return pictures
    return tf.data.Dataset.from_tensor_slices(np.asarray(pictures, np.float32)).batch(batch_size)


def _shuffled(x: np.ndarray, batch_size: int, seed: int, iterations: tf.Variable) -> tf.data.Dataset:
    """Batches of an array in an order of its own in every epoch, which follows from seed and epoch alone.

    The epoch is counted from the optimizer's iterations when a pass begins, so that a run which goes on from a backup
    sees the order that it would have seen. (`Dataset.shuffle` mixes its seed with the global one.)
    """
    steps = -(-len(x) // batch_size)

    def order(_: Any) -> tf.data.Dataset:
        epoch = tf.convert_to_tensor(iterations) // max(steps, 1)
        places = tf.random.experimental.stateless_shuffle(
            tf.range(len(x)), seed=tf.stack([tf.cast(seed, epoch.dtype), epoch])
        )
        return tf.data.Dataset.from_tensor_slices(places)

    places = tf.data.Dataset.range(1).flat_map(order).batch(batch_size)
    pictures = tf.constant(x)
    batches = places.map(lambda chosen: tf.gather(pictures, chosen)).prefetch(1)
    return batches.apply(tf.data.experimental.assert_cardinality(steps))


__all__ = [
    "LOSSES",
    "PARTS",
    "Distiller",
    "HiddenModels",
    "distill",
    "hidden_loss",
    "hidden_models",
    "logits_loss",
    "logits_model",
    "trained_variables",
]
