"""Pictures in the size and the colours that a network takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_dbq.compat import tf


def resize(pictures: np.ndarray, size: int | None) -> np.ndarray:
    """Bilinear resizing (half-pixel centres, edges repeated), rounded to the nearest value, ties to even.

    Args:
      pictures: uint8 [N, H, W, C].
      size: new height and width in pixels; None or the present size gives `pictures` back.
    Returns:
      uint8 [N, size, size, C].
    """
    if size is None or pictures.shape[1:3] == (size, size):
        return pictures
    blocks = [pictures[i : i + 256] for i in range(0, len(pictures), 256)]  # a whole set as float would fill the memory
    return np.concatenate([_rounded(tf.image.resize(block, (size, size))).numpy() for block in blocks])


def fitted(picture: Any, size: int | None, channels: int | None) -> Any:
    """One photo, uint8 [H, W, C], as uint8 [size, size, channels]; antialiased, because photos shrink a lot.

    None keeps the size or the channels. Colour is averaged to grey.
    """
    if size is not None:
        picture = _rounded(tf.image.resize(picture, (size, size), antialias=True))
    if channels == 3 and picture.shape[2] == 1:
        picture = tf.repeat(picture, 3, axis=2)
    if channels == 1 and picture.shape[2] == 3:
        picture = _rounded(tf.reduce_mean(tf.cast(picture, tf.float32), 2, keepdims=True))
    return picture


def _rounded(values: Any) -> Any:
    return tf.cast(tf.clip_by_value(tf.round(values), 0, 255), tf.uint8)
