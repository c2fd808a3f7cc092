"""`distill`: the float model's answers learnt in one call; and the parts of 0.1's module of this name.

source: Goncharenko et al. (FAT, IWANN 2019): the distance of the logits, Adam, cosine annealing with a reset of the
optimizer's state at each cycle.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_dbq import _checks
from keras_dbq.compat import keras, tf
from keras_dbq.keras3 import as_tf_keras
from keras_dbq.solving.finished import Finished, digest
from keras_dbq.training.annealing import Annealing, few_levels
from keras_dbq.training.augmentation import WAYS, augmented
from keras_dbq.training.callbacks import AnnealedCodes, BestEpoch, CosineAnnealing, LastGoodEpoch
from keras_dbq.training.distiller import Distiller
from keras_dbq.training.losses import LOSSES, hidden_loss, logits_loss
from keras_dbq.training.outputs import HiddenModels, hidden_models, logits_model, shares_hidden
from keras_dbq.training.parts import PARTS, has_thresholds, trained_variables
from keras_dbq.training.scaled_adam import ScaledAdam, units
from keras_dbq.wrapping import wrappers


class Settings(NamedTuple):
    """What `distill` does where nothing is said."""

    loss: str
    hidden_weight: float
    learning_rate: float
    augment: tuple[str, ...]


# choice, by what is trained: measured in examples/thresholds (thresholds, point-wise); all: `ScaledAdam`, see
# docs/quantization.md (32).
DEFAULTS = {
    "thresholds": Settings("rmse", 0.0, 1e-3, ()),
    "pointwise": Settings("rmse", 0.0, 1e-3, ()),
    "all": Settings("kl", 1.0, 3e-4, ("shift", "mirror", "mix")),
}
# choice: measured; docs/quantization.md (35).
ANNEALED_RATE = 0.01
CODES = ("latent", "settled", "annealed")
SETTLED_RATE = 1e-3
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
    codes: str = "latent",
    augment: Sequence[str] | None = None,
    seed: int = 0,
    validation_data: Any = None,
    keep_best: bool = True,
    workdir: str | os.PathLike | None = None,
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
      loss, hidden_weight: see `Distiller`; None: `DEFAULTS` of what is trained, and no hidden activations where the
        models have none in common.
      epochs: over the data.
      cycle_epochs: epochs of one cosine cycle, at whose end the rate is 0; None: one cycle.
      learning_rate: of Adam, at the start of each cycle; with train="all" in units of each channel's deviation
        (`ScaledAdam`), because kernels with a folded batch norm differ from channel to channel by orders of magnitude.
        None: `DEFAULTS` of what is trained, of settled codes `SETTLED_RATE`, of annealed ones `ANNEALED_RATE`.
      batch_size: of an array.
      codes: how the codes of ternary weights, and of linear ones of up to 6 bits, train, with train="all". "latent":
        latent weights, and the gradient of the scheme. "settled": the same, for a network whose codes were solved for
        (`solve_ternary`, `init="two_step"`), which leaves many weights next to a threshold: each begins in the middle
        of its level, so that it takes steps in one direction to change it, and weights of more levels, as of 8 bits,
        do not train, because their codes would change by chance at every step. "annealed": on a soft curve that grows
        as sharp as the steps (`training.annealing`). It forgets much of the codes that it begins with and finds better
        ones in a small network and a hundred epochs or more; larger networks want it block by block (`reconstruct`).
      augment: ways in which every epoch changes the pictures, some of "shift", "crop", "mirror", "colour" and "mix"
        (see `training.augmentation.augmented`); the float model answers to what they become. () leaves them. None:
        `DEFAULTS` of what is trained for an array of pictures [N, H, W, C], () for everything else.
      seed: of the order of an array's pictures and of what `augment` draws, both anew for every epoch; the same seed
        gives the same weights, whatever ran before in the process. A data set has the order that it has.
      validation_data: pictures that choose the epoch, an array or a data set; None: a tenth of an array, drawn by
        `seed`, which is then not trained on (where that is under 8 pictures, all choose). Of a data set none are kept
        back.
      keep_best: False ends with the last epoch, and trains on all of `data`.
      workdir: folder for what is done after every epoch. The same call with it goes on after the last finished epoch,
        and gives the same weights; None keeps nothing.
      callbacks: further Keras callbacks.
      verbose: as in `fit`: 0 nothing, 1 a progress bar, 2 a line an epoch.

    Returns:
      {"loss": one value per epoch, and where pictures chose the epoch "val_loss": their loss after each}, of the epochs
      that this call trained.

    Raises:
      ValueError: unknown names, nothing to train, a dataset of unknown length, no pictures, `augment` of something else
        than pictures, a workdir of another run.
    """
    _checks.integer("epochs", epochs, 1, 2**31 - 1)
    cycle = _checks.integer("cycle_epochs", epochs if cycle_epochs is None else cycle_epochs, 1, epochs)
    _checks.integer("batch_size", batch_size, 1, 2**31 - 1)
    _checks.integer("seed", seed, -(2**31), 2**31 - 1)
    _checks.boolean("keep_best", keep_best)
    train = default_part(q_model) if train is None else _checks.one_of("train", train, PARTS)
    float_model = as_tf_keras(float_model)
    settings = _settings(train, loss, hidden_weight, learning_rate, augment)
    few = [] if _checks.one_of("codes", codes, CODES) == "latent" else _few_levels(q_model, train, codes)
    annealed = Annealing(few) if codes == "annealed" else None
    if few and learning_rate is None:
        settings = settings._replace(learning_rate=ANNEALED_RATE if codes == "annealed" else SETTLED_RATE)
    if hidden_weight is None and settings.hidden_weight and not shares_hidden(q_model, float_model):
        settings = settings._replace(hidden_weight=0.0)
    distiller = Distiller(q_model, float_model, train, settings.loss, settings.hidden_weight)
    if codes == "settled":
        distiller._leave_other_kernels(few)
    distiller.compile(_optimizer(distiller, train, settings.learning_rate))
    data, chosen_by = _divided(data, validation_data, keep_best, seed)
    is_array = not isinstance(data, tf.data.Dataset)
    if is_array:
        data = _shuffled(data, batch_size, seed, distiller.optimizer.iterations)
    steps = int(data.cardinality())
    if steps < 1:
        raise ValueError(
            f"data: expected at least one batch of pictures, got a data set of {steps} batches (negative: unknown or "
            "endless; use take(n) and apply tf.data.experimental.assert_cardinality)"
        )
    if settings.augment and (augment is not None or (is_array and _are_pictures(data))):
        if not _are_pictures(data):
            raise ValueError(f"augment: expected pictures [N, H, W, C], got {data.element_spec}; leave it out")
        data = _changed(data, settings.augment, seed, distiller.optimizer.iterations)
    run = {**settings._asdict(), "train": train, "epochs": epochs, "cycle_epochs": cycle, "batch_size": batch_size}
    run |= {"codes": codes, "seed": seed, "keep_best": keep_best, "steps": steps, "augment": list(settings.augment)}
    finished = Finished(workdir, run | {"weights": digest(q_model.get_weights()) if workdir else ""}, "distill")
    done = finished.load(0)
    if done is not None:
        distiller.set_weights(done)
        return {"loss": []}
    own: list[Any] = [CosineAnnealing(settings.learning_rate, cycle * steps), LastGoodEpoch()]
    if chosen_by is not None:
        file = None if finished.folder is None else finished.folder / "best.npz"
        own.append(BestEpoch(_in_batches(chosen_by, batch_size), distiller, file))
    if finished.folder is not None:
        own.append(keras.callbacks.BackupAndRestore(str(finished.folder / "backup")))
    if codes == "settled":
        for weight in few:
            weight.variable.assign(weight.quantizer(weight.variable, False, weight.variables))
    with contextlib.nullcontext() if annealed is None else annealed.soft():
        if annealed is not None:
            own.insert(0, AnnealedCodes(annealed, epochs * steps))
        history = distiller.fit(data, epochs=epochs, callbacks=[*own, *callbacks], verbose=verbose).history
    finished.save(0, distiller.get_weights())
    return history


def default_part(q_model: keras.Model) -> str:
    """What `distill` trains where nothing is said: trained thresholds where the model has some, else everything."""
    return "thresholds" if has_thresholds(q_model) else "all"


def _few_levels(q_model: keras.Model, train: str, codes: str) -> list[wrappers.QuantizedWeight]:
    weights = few_levels(wrappers.all_layers(q_model), trained_variables(q_model, train)) if train == "all" else []
    if not weights:
        raise ValueError(
            f"codes: expected 'latent' with train={train!r} and this model, got {codes!r}, which is for ternary "
            "weights and linear ones of up to 6 bits, and train='all'"
        )
    return weights


def _optimizer(distiller: Distiller, train: str, learning_rate: float) -> keras.optimizers.Optimizer:
    if train != "all":  # factors near 1
        return keras.optimizers.Adam(learning_rate, jit_compile=False)
    variables = distiller.trained
    return ScaledAdam(variables, units(wrappers.all_layers(distiller.q_model), variables), learning_rate)


def _settings(
    train: str,
    loss: str | None,
    hidden_weight: float | None,
    learning_rate: float | None,
    augment: Sequence[str] | None,
) -> Settings:
    default = DEFAULTS[train]
    if isinstance(augment, str):
        raise ValueError(f"augment: expected a list of names, got {augment!r}; for example [{augment!r}]")
    return Settings(
        default.loss if loss is None else loss,
        default.hidden_weight if hidden_weight is None else hidden_weight,
        default.learning_rate if learning_rate is None else learning_rate,
        default.augment if augment is None else tuple(_checks.one_of("augment", way, WAYS) for way in augment),
    )


def _divided(data: Any, validation_data: Any, keep_best: bool, seed: int) -> tuple[Any, Any]:
    """(what is trained on, what chooses the epoch or None)."""
    if not isinstance(data, tf.data.Dataset):
        data = np.asarray(data, np.float32)
    if not keep_best or validation_data is not None or isinstance(data, tf.data.Dataset):
        return data, validation_data if keep_best else None
    held_back = int(HELD_BACK * len(data))
    if held_back < _FEWEST_HELD_BACK:
        return data, data if len(data) else None
    order = np.random.default_rng(seed % 2**32).permutation(len(data))
    return data[np.sort(order[held_back:])], data[np.sort(order[:held_back])]


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


def _are_pictures(data: tf.data.Dataset) -> bool:
    """Whether the batches are pictures [N, H, W, C], with labels or without."""
    spec = data.element_spec
    x = spec[0] if isinstance(spec, (tuple, list)) else spec
    return isinstance(x, tf.TensorSpec) and x.shape.rank == 4


def _changed(data: tf.data.Dataset, ways: Sequence[str], seed: int, iterations: tf.Variable) -> tf.data.Dataset:
    """The data set with its pictures changed, other draws in every pass; labels left out. What is drawn follows from
    the step, as the order in `_shuffled` does.
    """

    def one_pass(_: Any) -> tf.data.Dataset:
        first = tf.convert_to_tensor(iterations)  # when the pass begins

        def change(number: Any, batch: Any) -> Any:
            x = batch[0] if isinstance(batch, (tuple, list)) else batch
            return augmented(x, ways, tf.stack([tf.cast(seed, first.dtype), first + number]))

        return data.enumerate().map(change)

    changed = tf.data.Dataset.range(1).flat_map(one_pass).prefetch(1)
    return changed.apply(tf.data.experimental.assert_cardinality(int(data.cardinality())))


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
