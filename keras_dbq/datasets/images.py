"""`load(spec)`: a labelled picture set as four numpy arrays, the same ones on every call."""

from __future__ import annotations

import numpy as np

from keras_dbq.datasets.arrays import Images
from keras_dbq.datasets.streams import check, in_memory, is_in_memory, stream


def load(spec: str, size: int | None = None, channels: int | None = None, seed: int = 0) -> Images:
    """Loads a picture set by name or path.

    Args:
      spec: "digits" (scikit-learn's 1,797 handwritten digits, 8 x 8; needs scikit-learn), a path that ends with .npz
        (arrays x_train, y_train, x_test, y_test), a folder (train/CLASS/*.jpg, and validation/ or test/ beside
        train/), or the name of a tfds data set with splits train and test or validation (it may download).
      size: height and width of the pictures in pixels, resized bilinearly (photos of folders and tfds sets with
        antialiasing); None keeps the stored size (required where pictures differ in size).
      channels: 1 or 3; grey pictures are repeated, colour is averaged to grey; None keeps the stored channels.
      seed: of the split of "digits" into 4/5 training and 1/5 test pictures, class by class. Sets that come with a
        split keep it.
    Returns:
      Images, with uint8 pictures and int64 labels.
    Raises:
      ValueError: an unknown spec, a missing key, wrong shapes, sizes or types, NaN, or values outside 0..255.
      ImportError: the package that `spec` needs is not installed.
    """
    check(size, channels)
    if is_in_memory(spec):
        return in_memory(spec, size, channels, seed)
    return Images(*_collected(spec, "train", size, channels), *_collected(spec, "test", size, channels))


def _collected(spec: str, split: str, size: int | None, channels: int | None) -> tuple[np.ndarray, np.ndarray]:
    """All pictures and labels of one part."""
    pairs = list(stream(spec, split, size, channels).ordered(None).as_numpy_iterator())
    if len({picture.shape for picture, _ in pairs}) > 1:
        raise ValueError(f"data {spec!r}: its pictures differ in size; give size, for example size=96")
    return np.stack([picture for picture, _ in pairs]), np.array([label for _, label in pairs], np.int64)
