"""What the examples give to `compile` and `fit`: optimizer, metrics, callbacks, and bfloat16 while training."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from examples.common import stages
from keras_dbq.callbacks import TensorBoardQuantization
from keras_dbq.compat import keras, tf
from keras_dbq.wrapping import lookup

MOMENTUM = 0.9
OPTIMIZERS = ("sgd", "adam")


@dataclass(frozen=True)
class Settings:
    """What decides the course of a training run.

    learning_rate: at the first step; it falls to 0 along half a cosine.
    weight_decay: of kernels only, see `make_optimizer`.
    optimizer: "sgd" or "adam".
    bfloat16: convolutions of training steps in bfloat16.
    patience: epochs without a better figure on the test set after which training ends; 0 trains to the end.
    tensorboard: whether logs for TensorBoard are written.
    """

    epochs: int
    steps_per_epoch: int
    learning_rate: float = 0.02
    weight_decay: float = 0.0
    optimizer: str = "sgd"
    bfloat16: bool = False
    patience: int = 0
    tensorboard: bool = False


def make_optimizer(variables: list[Any], settings: Settings) -> Any:
    """SGD with momentum or Adam on a cosine over the whole run, its variables created.

    Each step takes `decay * learning rate * kernel` from every kernel, and nothing from other variables. choice:
    decay = weight_decay / (1 - momentum) for SGD, to which weight_decay * kernel in the gradient adds up; weight_decay
    for Adam.

    Raises ValueError for another optimizer.
    """
    rate = keras.optimizers.schedules.CosineDecay(settings.learning_rate, settings.epochs * settings.steps_per_epoch)
    decay = settings.weight_decay or None
    if check_optimizer(settings.optimizer) == "sgd":
        decay = decay and decay / (1 - MOMENTUM)
        optimizer = keras.optimizers.SGD(rate, MOMENTUM, weight_decay=decay, jit_compile=False)
    else:
        optimizer = keras.optimizers.Adam(rate, weight_decay=decay, jit_compile=False)
    if decay:
        optimizer.exclude_from_weight_decay([v for v in variables if not _is_kernel(v)])
    optimizer.build(variables)
    return optimizer


def check_optimizer(name: str) -> str:
    """Returns the name, or raises ValueError where it is none of OPTIMIZERS."""
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer: expected one of {', '.join(OPTIMIZERS)}, got {name!r}")
    return name


def _is_kernel(variable: Any) -> bool:
    return "kernel" in variable.name.rpartition("/")[2] and variable.shape.rank > 1


def cross_entropy() -> Any:
    """Mean cross-entropy of logits with integer labels."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class LabelledAccuracy(keras.metrics.Metric):
    """Share of right answers among pictures with a label (not -1); with `balanced` the mean of the classes' shares.

    NaN where nothing has a label.
    """

    def __init__(self, classes: int, balanced: bool = False, name: str = "accuracy"):
        super().__init__(name=name)
        self.balanced, self.classes = balanced, classes
        self.right = self.add_weight("right", (classes,), initializer="zeros")
        self.seen = self.add_weight("seen", (classes,), initializer="zeros")

    def reset_state(self) -> None:
        for counts in (self.right, self.seen):
            counts.assign(tf.zeros_like(counts))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        labels = tf.cast(tf.reshape(y_true, [-1]), tf.int64)
        seen = tf.one_hot(labels, self.classes)  # -1 gives a row of zeros
        right = tf.cast(tf.equal(tf.argmax(y_pred, -1), labels), tf.float32)
        self.seen.assign_add(tf.reduce_sum(seen, 0))
        self.right.assign_add(tf.reduce_sum(seen * right[:, None], 0))

    def result(self) -> Any:
        if not self.balanced:
            return tf.reduce_sum(self.right) / tf.reduce_sum(self.seen)
        shares = tf.boolean_mask(self.right, self.seen > 0) / tf.boolean_mask(self.seen, self.seen > 0)
        return tf.reduce_mean(shares)


class Seconds(keras.callbacks.Callback):
    """Adds the time of each epoch, its evaluation included, to the logs."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["seconds"] = time.perf_counter() - self.started


class FiniteLoss(keras.callbacks.Callback):
    """Ends the program at a loss that is not finite: what would be backed up after it is worth nothing."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not math.isfinite(logs["loss"]):
            raise RuntimeError(
                f"epoch {self.epoch + 1}, step {batch + 1}: the loss is {logs['loss']}; lower the learning rate"
            )


class Float32Evaluation(keras.callbacks.Callback):
    """Switches bfloat16 off while the test set is measured."""

    def on_test_begin(self, logs: Any = None) -> None:
        _set_bfloat16(False)

    def on_test_end(self, logs: Any = None) -> None:
        _set_bfloat16(True)


_BFLOAT16 = "auto_mixed_precision_onednn_bfloat16"


def _set_bfloat16(on: bool) -> None:
    tf.config.optimizer.set_experimental_options({_BFLOAT16: on})


@contextmanager
def bfloat16_steps(on: bool) -> Iterator[list[Any]]:
    """While on, TensorFlow computes convolutions of float32 graphs in bfloat16 (oneDNN, CPU); gives callbacks."""
    before = tf.config.optimizer.get_experimental_options().get(_BFLOAT16, False)
    _set_bfloat16(on)
    try:
        yield [Float32Evaluation()] if on else []
    finally:
        _set_bfloat16(before)


def fit(
    model: Any,
    stage: stages.Stage,
    settings: Settings,
    batches: Callable[[int], Any],
    test: Any,
    monitor: str,
    callbacks: Sequence[Any] = (),
) -> None:
    """`model.fit` to `settings.epochs`, from the stage's backup if there is one.

    Args:
      model: compiled; it holds the last weights afterwards, with `patience` those of the best epoch.
      batches: first epoch -> data of all epochs from there on.
      test: data that is measured after each epoch.
      monitor: the figure among the logs that `patience` and the best weights go by; higher is better.
      callbacks: further ones.
    """
    first = stages.first_epoch(stage)
    stages.forget_rows(stage, first)
    past = [row.get(monitor, -math.inf) for row in stages.history(stage)]
    last = first if _stopped(past, settings.patience) else settings.epochs
    if first:
        print(f"resuming {stage.file('_backup')} after epoch {first} of {settings.epochs}", flush=True)
    with bfloat16_steps(settings.bfloat16) as precision:
        model.fit(
            batches(first),
            initial_epoch=first,
            epochs=last,
            steps_per_epoch=settings.steps_per_epoch,
            validation_data=test,
            callbacks=[
                Seconds(),
                FiniteLoss(),
                *precision,
                *callbacks,
                *_board(model, stage, settings),
                *_files(stage, settings, monitor, past),
            ],
            verbose=1 if sys.stdout.isatty() else 2,
        )
    if settings.patience and tf.train.latest_checkpoint(str(stage.file("_best"))):
        model.load_weights(str(stage.file("_best") / "weights")).expect_partial()


def _board(model: Any, stage: stages.Stage, settings: Settings) -> list[Any]:
    """What writes for TensorBoard: Keras' figures, and of a quantized model its scales, zeros and flips."""
    if not settings.tensorboard:
        return []
    folder = str(stage.file("_tensorboard"))
    quantized = any(lookup.quantized_weights(layer) for layer in lookup.all_layers(model))
    ours = [TensorBoardQuantization(folder)] if quantized else []
    return [keras.callbacks.TensorBoard(folder), *ours]


def _files(stage: stages.Stage, settings: Settings, monitor: str, past: list[float]) -> list[Any]:
    """Keras' callbacks that write, the backup last: what it holds was written by the others before."""
    kinds = keras.callbacks
    best = str(stage.file("_best") / "weights")
    written: list[Any] = [kinds.CSVLogger(str(stage.file(".csv")), append=True)] if stage.writes else []
    if settings.patience:
        written.append(_early_stopping(monitor, settings.patience, past))
    return [
        *written,
        kinds.ModelCheckpoint(
            best,
            monitor,
            save_best_only=True,
            save_weights_only=True,
            mode="max",
            initial_value_threshold=max(past, default=None),
        ),
        kinds.BackupAndRestore(str(stage.file("_backup")), delete_checkpoint=False),
    ]


class _Resumed(keras.callbacks.EarlyStopping):
    """EarlyStopping that has seen the epochs before a resume."""

    def __init__(self, past: list[float], **settings: Any):
        super().__init__(**settings)
        self.past = past

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        for epoch, value in enumerate(self.past):
            self.on_epoch_end(epoch, {self.monitor: value})


def _early_stopping(monitor: str, patience: int, past: list[float]) -> Any:
    return _Resumed(past, monitor=monitor, patience=patience, mode="max")


def _stopped(past: list[float], patience: int) -> bool:
    """Whether EarlyStopping had ended training after the epochs with these figures."""
    best = max(range(len(past)), key=past.__getitem__, default=0)
    return bool(patience) and len(past) - 1 - best >= patience
