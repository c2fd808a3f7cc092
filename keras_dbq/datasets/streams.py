"""`stream(spec, split)`: one part of a picture set by name or path, read while it is trained on."""

from __future__ import annotations

from pathlib import Path

from keras_dbq.datasets import arrays, catalogue, folders
from keras_dbq.datasets.resizing import resize
from keras_dbq.datasets.stream import Stream, from_arrays


def stream(
    spec: str, split: str = "train", size: int | None = None, channels: int | None = None, seed: int = 0
) -> Stream:
    """One part of a picture set as a stream: with tfds names and folders it may be larger than memory.

    Args:
      spec: see `load`.
      split: "train" or "test".
      size, channels: see `load`; with size=None the pictures of a tfds set or a folder may differ in size.
      seed: of the split of "digits".

    Raises ValueError and ImportError as `load` does, and ValueError for another split.
    """
    check(size, channels)
    if split not in folders.PARTS:
        raise ValueError(f"split: expected 'train' or 'test', got {split!r}")
    if is_in_memory(spec):
        loaded = in_memory(spec, size, channels, seed)
        x, y = (loaded.x_train, loaded.y_train) if split == "train" else (loaded.x_test, loaded.y_test)
        return from_arrays(x, y, loaded.classes)
    if folders.is_folder(spec):
        return folders.from_folder(Path(spec), split, size, channels)
    return catalogue.from_tfds(spec, split, size, channels)


def check(size: int | None, channels: int | None) -> None:
    """Raises ValueError for a size or a number of channels that no picture has."""
    if channels not in (None, 1, 3):
        raise ValueError(f"channels: expected 1, 3 or None, got {channels!r}")
    if size is not None and (not isinstance(size, int) or size < 1):
        raise ValueError(f"size: expected a positive number of pixels or None, got {size!r}")


def is_in_memory(spec: str) -> bool:
    """Whether the set of this name or path is kept as arrays."""
    return spec == "digits" or spec.endswith(".npz")


def in_memory(spec: str, size: int | None, channels: int | None, seed: int) -> arrays.Images:
    """All pictures of "digits" or of an .npz, resized."""
    images = arrays.digits(seed) if spec == "digits" else arrays.npz(Path(spec))
    x_train, x_test = (arrays.with_channels(resize(x, size), channels) for x in (images.x_train, images.x_test))
    return images._replace(x_train=x_train, x_test=x_test)
