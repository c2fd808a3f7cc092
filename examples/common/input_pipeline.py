"""Batches for `fit`: order and augmentation follow from (seed, epoch, batch) alone, wherever a run begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from keras_dbq.compat import tf
from keras_dbq.datasets import Stream

Augment = Callable[[Any, Any], Any]
Prepare = Callable[[Any], Any]


class Cut(NamedTuple):
    """How photos of any size, uint8 [H, W, 3], become pictures of one size.

    train: (photo, seed int64 [2]) -> picture.  test: photo -> picture.
    """

    train: Callable[[Any, Any], Any]
    test: Callable[[Any], Any]


class Steps(NamedTuple):
    """What happens to pictures on their way into training.

    augment: (uint8 [N, H, W, C], seed int64 [2]) -> uint8 [N, H, W, C].
    prepare: uint8 [N, H, W, C] -> float32, what the network takes.
    cut: of photos that differ in size.
    """

    augment: Augment
    prepare: Prepare
    cut: Cut | None = None


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


def training_batches(pictures: Stream, batch_size: int, seed: int, epochs: range, steps: Steps) -> Any:
    """The batches of the epochs, one after the other; full batches only.

    Returns tf.data.Dataset of (float32 [batch_size, H, W, C], int64 [batch_size]).
    """

    def one_epoch(epoch: Any) -> Any:
        key = tf.stack([tf.constant(seed, tf.int64), epoch])
        data = _cut_photos(pictures.ordered(key), steps.cut, tf.random.fold_in(key, 0))

        def finish(number: Any, batch: tuple[Any, Any]) -> tuple[Any, Any]:
            return steps.prepare(steps.augment(batch[0], tf.random.fold_in(key, number))), batch[1]

        return data.batch(batch_size, drop_remainder=True).enumerate(1).map(finish)

    return tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(one_epoch).prefetch(2)


def _cut_photos(data: Any, cut: Cut | None, key: Any) -> Any:
    if cut is None:
        return data

    def one(number: Any, photo: tuple[Any, Any]) -> tuple[Any, Any]:
        return cut.train(photo[0], tf.random.fold_in(key, number)), photo[1]

    return data.enumerate().map(one, tf.data.AUTOTUNE)


def _whole(pictures: Stream, cut: Cut | None) -> Any:
    """The pictures as stored, not augmented."""
    data = pictures.ordered(None)
    return data if cut is None else data.map(lambda x, y: (cut.test(x), y), tf.data.AUTOTUNE)


def test_batches(pictures: Stream, batch_size: int, prepare: Prepare, cut: Cut | None = None) -> Any:
    """All pictures as stored; tf.data.Dataset of (float32 [N, H, W, C], int64 [N])."""
    batches = _whole(pictures, cut).batch(batch_size).map(lambda x, y: (prepare(x), y)).prefetch(2)
    return batches.apply(tf.data.experimental.assert_cardinality(-(-pictures.count // batch_size)))


def first_pictures(pictures: Stream, count: int, prepare: Prepare, cut: Cut | None = None) -> Any:
    """The first pictures as stored, for calibration; float32 array [count or all, H, W, C]."""
    return prepare(next(iter(_whole(pictures, cut).batch(count)))[0]).numpy()
