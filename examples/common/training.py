"""A training loop that survives interruptions: after each epoch everything that decides the rest is on disk.

The order of the pictures and their augmentation follow from (seed, epoch), the learning rate and the temperature from
the step, so a resumed run goes through the same states as one that was never interrupted.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.training.distillation import hidden_loss
from keras_dbq.wrapping.wrappers import quantizer_flags

Batches = Callable[[int], Iterator[tuple[np.ndarray, np.ndarray]]]
Loss = Callable[[Any, Any, Any], Any]


@dataclass(frozen=True)
class Settings:
    """What decides the course of a training run.

    learning_rate: at the first step; it falls to 0 along half a cosine.
    momentum: of "sgd".
    weight_decay: added to the gradient as weight_decay * kernel, for kernels only.
    fixed_statistics: batch norm keeps its moving statistics and activations their ranges, as calibrated.
    optimizer: "sgd" or "adam".
    """

    epochs: int
    steps_per_epoch: int
    learning_rate: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 0.0
    optimizer: str = "sgd"
    fixed_statistics: bool = False


@contextmanager
def bfloat16_steps(on: bool) -> Iterator[None]:
    """While on, TensorFlow computes convolutions of float32 graphs in bfloat16 (oneDNN, CPU)."""
    name = "auto_mixed_precision_onednn_bfloat16"
    before = tf.config.optimizer.get_experimental_options().get(name, False)
    tf.config.optimizer.set_experimental_options({name: on})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({name: before})


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file that is there completely or not at all, even if the process is killed meanwhile."""
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def save_checkpoint(path: Path, model: Any, optimizer: Any, epoch: int, history: list[dict], key: dict) -> None:
    """Stores all variables of model and optimizer (its step counter among them) after `epoch` finished epochs."""
    arrays = {f"model_{i}": value for i, value in enumerate(model.get_weights())}
    arrays |= {f"optimizer_{i}": variable.numpy() for i, variable in enumerate(optimizer.variables)}
    note = json.dumps({"epoch": epoch, "history": history, "key": key})
    buffer = io.BytesIO()
    np.savez(buffer, note=np.array(note), **arrays)
    write_atomically(path, buffer.getvalue())


def restore_checkpoint(path: Path, model: Any, optimizer: Any, key: dict) -> tuple[int, list[dict]]:
    """Puts stored variables back; returns the finished epochs and the history, (0, []) where nothing is stored.

    Raises ValueError where the checkpoint belongs to a run with other settings (`key`) or to another network.
    """
    if not path.is_file():
        return 0, []
    with np.load(path) as stored:
        note = json.loads(str(stored["note"]))
        key = json.loads(json.dumps(key))
        changed = sorted(name for name in {*key, *note["key"]} if key.get(name) != note["key"].get(name))
        if changed:
            raise ValueError(
                f"{path}: expected a run with these settings, got one with other {', '.join(changed)}; "
                "repeat its settings to go on with it, or choose another --workdir"
            )
        weights = [stored[f"model_{i}"] for i in range(len(model.weights))]
        model.set_weights(weights)
        for i, variable in enumerate(optimizer.variables):
            variable.assign(stored[f"optimizer_{i}"])
    return note["epoch"], note["history"]


def cross_entropy(x: Any, labels: Any, logits: Any) -> Any:
    """Mean cross-entropy of logits [N, C] with integer labels [N]."""
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))


def distillation(teacher: Any, weight: float, temperature: float = 4.0, hidden_weight: float | None = None) -> Loss:
    """Cross-entropy mixed with distillation from a float model (Hinton et al., arXiv 1503.02531).

    loss = (1 - weight) * cross_entropy + weight * t^2 * CE(softmax(teacher / t), softmax(logits / t)); with weight 1
    labels are not looked at. With `hidden_weight` teacher and student give (logits, hidden activations), see
    `keras_dbq.distillation.hidden_models`, and hidden_weight * hidden_loss is added.
    """

    def loss(x: Any, labels: Any, outputs: Any) -> Any:
        wanted = teacher(x, training=False)
        extra = 0.0
        if hidden_weight is not None:
            extra = hidden_weight * hidden_loss(outputs[1], wanted[1])
            outputs, wanted = outputs[0], wanted[0]
        target = tf.nn.softmax(tf.stop_gradient(wanted) / temperature)
        soft = tf.nn.softmax_cross_entropy_with_logits(labels=target, logits=outputs / temperature)
        soft = weight * temperature**2 * tf.reduce_mean(soft) + extra
        return soft if weight == 1 else soft + (1 - weight) * cross_entropy(x, labels, outputs)

    return loss


def make_optimizer(model: Any, settings: Settings) -> Any:
    """The optimizer on a cosine schedule over the whole run, its variables created."""
    rate = keras.optimizers.schedules.CosineDecay(settings.learning_rate, settings.epochs * settings.steps_per_epoch)
    if settings.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=settings.momentum, jit_compile=False)
    elif settings.optimizer == "adam":
        optimizer = keras.optimizers.Adam(rate, jit_compile=False)
    else:
        raise ValueError(f"optimizer: expected 'sgd' or 'adam', got {settings.optimizer!r}")
    optimizer.build(model.trainable_variables)
    return optimizer


def make_step(
    model: Any,
    optimizer: Any,
    loss: Loss,
    weight_decay: float,
    training: bool = True,
    network: Any = None,
) -> Callable[[Any, Any], tuple[Any, Any]]:
    """One training step as a graph: (x, labels) -> loss and the number of right answers."""
    variables = model.trainable_variables
    network = network or model

    @tf.function
    def step(x: Any, labels: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            outputs = network(x, training=training)
            value = loss(x, labels, outputs)
        gradients = tape.gradient(value, variables)
        if weight_decay:
            gradients = [
                g + weight_decay * v if "kernel" in v.name.rpartition("/")[2] and v.shape.rank > 1 else g
                for g, v in zip(gradients, variables, strict=True)
            ]
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        logits = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
        right = tf.reduce_sum(tf.cast(tf.equal(tf.argmax(logits, -1), tf.cast(labels, tf.int64)), tf.int32))
        return value, right

    return step


def train(
    model: Any,
    batches: Batches,
    settings: Settings,
    checkpoint: Path,
    loss: Loss = cross_entropy,
    evaluate: Callable[[Any], dict[str, float]] | None = None,
    before_step: Callable[[int], None] | None = None,
    key: dict[str, Any] | None = None,
    network: Any = None,
    bfloat16: bool = False,
) -> list[dict[str, Any]]:
    """Trains to `settings.epochs`, from the checkpoint if there is one.

    Args:
      model: float or quantized Keras model; it holds the final weights afterwards.
      batches: epoch -> iterator over `steps_per_epoch` pairs (x float32 [N, ...], labels [N]).
      settings: schedule and optimizer.
      checkpoint: .npz written after each epoch.
      loss: (x, labels, outputs) -> scalar.
      evaluate: called after each epoch; its figures go into the history.
      before_step: called with the number of steps done, for instance to set the temperature.
      key: further settings that a resumed run must share.
      network: what a step calls in place of `model`: the same variables, further outputs behind the logits.
      bfloat16: of the convolutions of steps (not of `evaluate`), see `bfloat16_steps`.
    Returns:
      one dict per epoch: epoch, loss, accuracy (on augmented labelled pictures), seconds, and `evaluate`'s figures.
    Raises:
      ValueError: the checkpoint belongs to a run with other settings.
      RuntimeError: the loss is not finite.
    """
    key = {**asdict(settings), **(key or {})}
    optimizer = make_optimizer(model, settings)
    done, history = restore_checkpoint(checkpoint, model, optimizer, key)
    if done:
        print(f"resuming {checkpoint} after epoch {done} of {settings.epochs}", flush=True)
    step = make_step(model, optimizer, loss, settings.weight_decay, not settings.fixed_statistics, network)
    for epoch in range(done, settings.epochs):
        # Both are read when the step is traced.
        with quantizer_flags(model, weights_training=settings.fixed_statistics), bfloat16_steps(bfloat16):
            figures = _one_epoch(step, batches(epoch), epoch, settings, before_step)
        if evaluate is not None:
            figures |= evaluate(model)
        history.append({"epoch": epoch + 1, **figures})
        save_checkpoint(checkpoint, model, optimizer, epoch + 1, history, key)
        print(_line(history[-1], settings.epochs), flush=True)
    return history


def _one_epoch(
    step: Callable[[Any, Any], tuple[Any, Any]],
    batches: Iterator[tuple[np.ndarray, np.ndarray]],
    epoch: int,
    settings: Settings,
    before_step: Callable[[int], None] | None,
) -> dict[str, float]:
    bar = keras.utils.Progbar(settings.steps_per_epoch, verbose=1 if sys.stdout.isatty() else 0, interval=0.5)
    started, total, right, seen = time.perf_counter(), 0.0, 0, 0
    for i, (x, labels) in enumerate(batches):
        if before_step is not None:
            before_step(epoch * settings.steps_per_epoch + i)
        value, hits = step(x, labels)
        total, right, seen = total + float(value), right + int(hits), seen + len(labels)
        if not np.isfinite(total):
            raise RuntimeError(f"epoch {epoch + 1}, step {i + 1}: the loss is {float(value)}; lower the learning rate")
        bar.update(i + 1, values=[("loss", float(value))])
    figures = {"loss": total / settings.steps_per_epoch, "seconds": time.perf_counter() - started}
    if labels.min() >= 0:
        figures["accuracy"] = right / seen
    return figures


def _line(figures: dict[str, Any], epochs: int) -> str:
    parts = [f"{name} {value:.4f}" for name, value in figures.items() if name not in ("epoch", "seconds")]
    return f"epoch {figures['epoch']}/{epochs}: {', '.join(parts)}, {figures['seconds']:.1f} s"
