"""`distill`: the float model's answers learnt in one call; and the parts of 0.1's module of this name.

source: Goncharenko et al. (FAT, IWANN 2019): the distance of the logits, Adam, cosine annealing with a reset of the
optimizer's state at each cycle.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_dbq import _checks
from keras_dbq.compat import keras, tf
from keras_dbq.training.callbacks import CosineAnnealing, LastGoodEpoch
from keras_dbq.training.distiller import Distiller
from keras_dbq.training.losses import LOSSES, hidden_loss, logits_loss
from keras_dbq.training.outputs import HiddenModels, hidden_models, logits_model
from keras_dbq.training.parts import PARTS, trained_variables


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
    seed: int = 0,
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
      seed: of the order of an array's pictures, which is drawn anew for every epoch; the same seed gives the same
        weights, whatever ran before in the process. A data set has the order that it has.
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
    _checks.integer("seed", seed, -(2**31), 2**31 - 1)
    distiller = Distiller(q_model, float_model, train, loss, hidden_weight)
    distiller.compile(keras.optimizers.Adam(learning_rate, jit_compile=False))
    if not isinstance(data, tf.data.Dataset):
        data = _shuffled(np.asarray(data, np.float32), batch_size, seed, distiller.optimizer.iterations)
    steps = int(data.cardinality())
    if steps < 1:
        raise ValueError(
            f"data: expected at least one batch of pictures, got a data set of {steps} batches (negative: unknown or "
            "endless; use take(n) and apply tf.data.experimental.assert_cardinality)"
        )
    own = [CosineAnnealing(learning_rate, cycle * steps), LastGoodEpoch()]
    return distiller.fit(data, epochs=epochs, callbacks=[*own, *callbacks], verbose=verbose).history


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
