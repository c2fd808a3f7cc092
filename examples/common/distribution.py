"""tf.distribute for the examples: a strategy by name, and the model inside of its scope."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_dbq.compat import keras, tf

STRATEGIES = ("none", "mirrored", "multiworker")


def make_strategy(name: str) -> Any:
    """none: this process on its default device. mirrored: all its GPUs, or logical CPUs where there is no GPU.
    multiworker: as TF_CONFIG says.

    Raises ValueError for another name.
    """
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if name == "multiworker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    raise ValueError(f"--strategy: expected one of {', '.join(STRATEGIES)}, got {name!r}")


def is_chief(strategy: Any) -> bool:
    """Whether this process is the one that measures and writes files."""
    return strategy.extended.should_checkpoint


@contextmanager
def replica(strategy: Any, model: Any) -> Iterator[tuple[Callable[[Any], Any], Any]]:
    """The strategy's scope, with a function that copies a model into it, and the copy of `model`.

    Without a strategy the copy of a model is the model itself. The copies go through a file: it holds everything.
    """
    if not tf.distribute.in_cross_replica_context() and strategy is tf.distribute.get_strategy():
        yield lambda other: other, model
        return
    with strategy.scope():
        yield _copy, _copy(model)


def _copy(model: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.keras"
        model.save(file)
        return keras.models.load_model(file, compile=False)
