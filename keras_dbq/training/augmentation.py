"""Other pictures out of those at hand, for networks that learn a float network's answers: it answers to all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_dbq.compat import tf

WAYS = ("shift", "crop", "mirror", "colour", "mix")
# choice: of "crop": the least share of a picture's area, and the largest ratio by which its sides change.
_AREA, _RATIO = 0.35, 4 / 3
# choice: of "colour": the largest factor of the contrast, and how far brightness moves, in all channels and in each
# alone, in units of the batch's range.
_CONTRAST, _BRIGHTNESS, _TINT = 1.4, 0.12, 0.06


def augmented(pictures: Any, ways: Sequence[str], seed: Any) -> Any:
    """A batch of pictures [N, H, W, C], each changed in these ways: a tensor of the same shape, of floats.

    "shift": by up to an eighth of its size; what comes in at the edges is its own mirror image.  "crop": a random
    rectangle of it, of 35 % of its area or more, made as large as the whole (bilinear).  "mirror": half of the
    pictures, left to right.  "colour": contrast about the picture's mean times 1 / 1.4 to 1.4, and brightness by up to
    0.12 and in each channel by up to 0.06 of the range that the batch's values have, which none of them leaves.
    "mix": each with its neighbour in the batch, t x + (1 - t) y with t even in 0..1 (source: Zhang et al., mixup, ICLR
    2018, with alpha = 1 and the float network's answer to the mixture instead of mixed labels).

    Args:
      ways: some of WAYS.  seed: two integers; the same ones draw the same.
    """
    seeds = tf.unstack(tf.random.split(seed, 6))
    pictures = tf.convert_to_tensor(pictures)
    pictures = pictures if pictures.dtype.is_floating else tf.cast(pictures, tf.float32)
    if "crop" in ways:
        pictures = _cropped(pictures, seeds[4])
    count, height, width = (tf.shape(pictures)[i] for i in range(3))
    reach = (height // 8, width // 8) if "shift" in ways else (0, 0)
    if "shift" in ways or "mirror" in ways:
        padding = [[0, 0], [reach[0], reach[0]], [reach[1], reach[1]], [0, 0]]
        rows = _starts(count, reach[0], seeds[0]) + tf.range(height)
        columns = _starts(count, reach[1], seeds[1]) + tf.range(width)
        if "mirror" in ways:
            flipped = tf.random.stateless_uniform([count, 1], seeds[2]) < 0.5
            columns = tf.where(flipped, tf.reverse(columns, [1]), columns)
        padded = tf.pad(pictures, padding, "SYMMETRIC")
        shape = pictures.shape
        pictures = tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
        pictures.set_shape(shape)
    if "colour" in ways:
        pictures = _recoloured(pictures, seeds[5])
    if "mix" in ways:
        share = tf.cast(tf.random.stateless_uniform([count, 1, 1, 1], seeds[3]), pictures.dtype)
        pictures = share * pictures + (1 - share) * tf.roll(pictures, 1, 0)
    return pictures


def _cropped(pictures: Any, seed: Any) -> Any:
    count = tf.shape(pictures)[0]
    drawn = tf.unstack(tf.random.stateless_uniform([4, count], seed))
    area, ratio = _AREA + (1 - _AREA) * drawn[0], _RATIO ** (2 * drawn[1] - 1)
    sides = [tf.minimum(tf.sqrt(part), 1) for part in (area / ratio, area * ratio)]  # of the height, of the width
    corner = [(1 - side) * place for side, place in zip(sides, drawn[2:], strict=True)]
    boxes = tf.stack([*corner, *(start + side for start, side in zip(corner, sides, strict=True))], 1)
    cropped = tf.image.crop_and_resize(pictures, boxes, tf.range(count), tf.shape(pictures)[1:3])
    return tf.ensure_shape(tf.cast(cropped, pictures.dtype), pictures.shape)


def _recoloured(pictures: Any, seed: Any) -> Any:
    shape, low, high = tf.shape(pictures), tf.reduce_min(pictures), tf.reduce_max(pictures)
    drawn = tf.cast(tf.random.stateless_uniform([shape[0], 1, 1, 2 + pictures.shape[-1]], seed, -1, 1), pictures.dtype)
    mean = tf.reduce_mean(pictures, [1, 2, 3], keepdims=True)
    moved = mean + (high - low) * (_BRIGHTNESS * drawn[..., 1:2] + _TINT * drawn[..., 2:])
    return tf.clip_by_value((pictures - mean) * _CONTRAST ** drawn[..., :1] + moved, low, high)


def _starts(count: Any, reach: Any, seed: Any) -> Any:
    """First row (or column) of each picture's window in the padded picture, [N, 1]."""
    return tf.random.stateless_uniform([count, 1], seed, 0, 2 * reach + 1, tf.int32)
