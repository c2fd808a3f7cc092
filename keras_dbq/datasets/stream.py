"""What a picture set is as a tf.data pipeline, so that one larger than memory can be trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_dbq.compat import tf


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
