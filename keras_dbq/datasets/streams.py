"""`stream(spec, split)`: a picture set as a tf.data pipeline, so that one larger than memory can be trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_dbq.compat import tf
from keras_dbq.datasets import images


@dataclass(frozen=True)
class Stream:
    """One part of a picture set.

    ordered: a seed, int64 [2], or None -> tf.data.Dataset of (picture uint8 [H, W, C], label int64, -1 where there is
      none); with a seed in an order that follows from it alone, with None as stored.
    count: pictures.
    classes: of the whole set.
    labelled: whether every picture of this part has a label.
    """

    ordered: Callable[[Any], Any]
    count: int
    classes: int
    labelled: bool = True


def from_arrays(x: np.ndarray, y: np.ndarray, classes: int) -> Stream:
    """The stream of pictures that lie in memory. x: uint8 [N, H, W, C].  y: int64 [N]."""
    with tf.device("CPU:0"):
        pictures, labels = tf.constant(x), tf.constant(y)

    def ordered(seed: Any = None) -> Any:
        indices = tf.range(len(x), dtype=tf.int64)
        if seed is not None:
            indices = tf.random.experimental.stateless_shuffle(indices, seed)
        data = tf.data.Dataset.from_tensor_slices(indices)
        return data.map(lambda i: (tf.gather(pictures, i), tf.gather(labels, i)))

    return Stream(ordered, len(x), classes, bool((y >= 0).all()))


def stream(
    spec: str, split: str = "train", size: int | None = None, channels: int | None = None, seed: int = 0
) -> Stream:
    """One part of the set that `load` gives, as a stream.

    Args:
      spec, size, channels, seed: see `load`.
      split: "train" or "test".

    Raises ValueError and ImportError as `load` does, and for another split.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split: expected 'train' or 'test', got {split!r}")
    loaded = images.load(spec, size, channels, seed)
    part = (loaded.x_train, loaded.y_train) if split == "train" else (loaded.x_test, loaded.y_test)
    return from_arrays(*part, loaded.classes)
