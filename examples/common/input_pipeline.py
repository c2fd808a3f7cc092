"""Batches for `fit`: order and augmentation follow from (seed, epoch, batch) alone, wherever a run begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_dbq.compat import tf
from keras_dbq.datasets import Stream

Augment = Callable[[Any, Any], Any]
Prepare = Callable[[Any], Any]


def crop_and_flip(pictures: Any, seed: Any, pad: int, flip: bool) -> Any:
    """Zero padding by `pad` pixels and a random crop of the old size, mirrored with probability 1/2 where `flip`.

    pictures: uint8 [N, H, W, C]; seed: int64 [2]. Returns the same shape and type.
    """
    count, height, width = tf.shape(pictures)[0], pictures.shape[1], pictures.shape[2]
    corner = tf.random.stateless_uniform([2, count, 1], seed, maxval=2 * pad + 1, dtype=tf.int32)
    rows, columns = corner[0] + tf.range(height), corner[1] + tf.range(width)
    if flip:
        mirrored = tf.random.stateless_uniform([count, 1], tf.random.fold_in(seed, 1)) < 0.5
        columns = tf.where(mirrored, columns[:, ::-1], columns)
    padded = tf.pad(pictures, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    return tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


def training_batches(
    pictures: Stream, batch_size: int, seed: int, first: int, epochs: int, augment: Augment, prepare: Prepare
) -> Any:
    """The batches of epochs `first` to `epochs` - 1, one after the other; full batches only.

    Args:
      pictures: what to train on.
      seed: of order and augmentation, with the epoch's number.
      augment: (uint8 [N, H, W, C], seed int64 [2]) -> uint8 [N, H, W, C].
      prepare: uint8 [N, H, W, C] -> float32, what the network takes.
    Returns:
      tf.data.Dataset of (float32 [batch_size, H, W, C], int64 [batch_size]).
    """

    def one_epoch(epoch: Any) -> Any:
        key = tf.stack([tf.constant(seed, tf.int64), epoch])

        def finish(batch: Any, part: tuple[Any, Any]) -> tuple[Any, Any]:
            return prepare(augment(part[0], tf.random.fold_in(key, batch))), part[1]

        batches = pictures.ordered(key).batch(batch_size, drop_remainder=True)
        return batches.enumerate(1).map(finish)

    return tf.data.Dataset.range(first, epochs).flat_map(one_epoch).prefetch(2)


def test_batches(pictures: Stream, batch_size: int, prepare: Prepare) -> Any:
    """All pictures as stored; tf.data.Dataset of (float32 [N, H, W, C], int64 [N])."""
    return pictures.ordered(None).batch(batch_size).map(lambda x, y: (prepare(x), y)).prefetch(2)


def first_pictures(pictures: Stream, count: int, prepare: Prepare) -> Any:
    """The first pictures as stored, for calibration; float32 array [count or all, H, W, C]."""
    batch = next(iter(pictures.ordered(None).batch(count)))[0]
    return prepare(batch).numpy()
