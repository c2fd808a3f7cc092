"""`load(spec)`: a labelled picture set as four numpy arrays, the same ones on every call."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

_KEYS = ("x_train", "y_train", "x_test", "y_test")


class Images(NamedTuple):
    """A picture set. x: uint8 [N, H, W, C], values 0..255; y: int64 [N], class numbers from 0 (-1: not labelled)."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    @property
    def classes(self) -> int:
        """Number of classes: the highest label of both parts plus one."""
        return int(max(self.y_train.max(), self.y_test.max())) + 1


def load(spec: str, size: int | None = None, channels: int | None = None, seed: int = 0) -> Images:
    """Loads a picture set by name or path.

    Args:
      spec: "digits" (scikit-learn's 1,797 handwritten digits, 8 x 8; needs scikit-learn), a path that ends with .npz
        (arrays x_train, y_train, x_test, y_test), or the name of a tfds data set with splits train and test or
        validation (needs tensorflow_datasets; it may download).
      size: height and width of the pictures in pixels, resized bilinearly; None keeps the stored size (tfds: required
        where pictures differ in size).
      channels: 1 or 3; grey pictures are repeated, colour is averaged to grey; None keeps the stored channels.
      seed: of the split of "digits" into 4/5 training and 1/5 test pictures, class by class. Sets that come with a
        split keep it.
    Returns:
      Images, with uint8 pictures and int64 labels.
    Raises:
      ValueError: an unknown spec, a missing key, wrong shapes, sizes or types, NaN, or values outside 0..255.
      ImportError: the package that `spec` needs is not installed.
    """
    if channels not in (None, 1, 3):
        raise ValueError(f"channels: expected 1, 3 or None, got {channels!r}")
    if size is not None and (not isinstance(size, int) or size < 1):
        raise ValueError(f"size: expected a positive number of pixels or None, got {size!r}")
    if spec == "digits":
        images = _digits(seed)
    elif spec.endswith(".npz"):
        images = _npz(Path(spec))
    else:
        images = _tfds(spec, size)
    x_train, x_test = (_with_channels(resize(x, size), channels) for x in (images.x_train, images.x_test))
    return images._replace(x_train=x_train, x_test=x_test)


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

    def taps(length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        position = np.clip((np.arange(size) + 0.5) * (length / size) - 0.5, 0, length - 1)
        low = position.astype(np.int64)
        return low, np.minimum(low + 1, length - 1), (position - low).astype(np.float32)

    top, bottom, down = taps(pictures.shape[1])
    left, right, across = taps(pictures.shape[2])
    result = np.empty((len(pictures), size, size, pictures.shape[3]), np.uint8)
    for i in range(0, len(pictures), 256):  # in blocks: float copies of a whole set would fill the memory
        block = pictures[i : i + 256].astype(np.float32)
        rows = block[:, top] + (block[:, bottom] - block[:, top]) * down[:, None, None]
        pixels = rows[:, :, left] + (rows[:, :, right] - rows[:, :, left]) * across[:, None]
        result[i : i + 256] = np.rint(pixels)
    return result


def _with_channels(pictures: np.ndarray, channels: int | None) -> np.ndarray:
    if channels is None or pictures.shape[3] == channels:
        return pictures
    if channels == 3:
        return np.repeat(pictures, 3, axis=3)
    return np.rint(pictures.mean(axis=3, keepdims=True)).astype(np.uint8)


def _digits(seed: int) -> Images:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("data 'digits': expected the package scikit-learn; run: pip install scikit-learn") from error
    stored = load_digits()
    x = np.rint(stored.images * (255 / 16)).astype(np.uint8)[..., None]  # 16 grey values
    y = stored.target.astype(np.int64)
    rng = np.random.default_rng(seed)
    test = np.zeros(len(y), bool)
    for digit in range(10):
        members = rng.permutation(np.flatnonzero(y == digit))
        test[members[: len(members) // 5]] = True
    return Images(x[~test], y[~test], x[test], y[test])


def _npz(path: Path) -> Images:
    if not path.is_file():
        raise ValueError(f"data: expected a file at {path}, found none; give 'digits', an .npz's path or a tfds name")
    with np.load(path) as stored:
        missing = [key for key in _KEYS if key not in stored.files]
        if missing:
            raise ValueError(
                f"{path}: expected arrays {', '.join(_KEYS)}, got {', '.join(stored.files)}; add {', '.join(missing)}"
            )
        arrays = [stored[key] for key in _KEYS]
    pictures = [_as_pictures(path, key, value) for key, value in zip(_KEYS[::2], arrays[::2], strict=True)]
    labels = [
        _as_labels(path, key, value, len(x)) for key, value, x in zip(_KEYS[1::2], arrays[1::2], pictures, strict=True)
    ]
    if pictures[0].shape[1:] != pictures[1].shape[1:]:
        raise ValueError(
            f"{path}: expected x_train and x_test of one picture shape, got {pictures[0].shape[1:]} and "
            f"{pictures[1].shape[1:]}; resize one of them"
        )
    return Images(pictures[0], labels[0], pictures[1], labels[1])


def _as_pictures(path: Path, key: str, x: np.ndarray) -> np.ndarray:
    """x as uint8 [N, H, W, C]; accepts [N, H, W], bool, integers and floats as long as every value is in 0..255."""
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or x.shape[3] not in (1, 3) or 0 in x.shape:
        raise ValueError(f"{path}: {key}: expected pictures [N, H, W], [N, H, W, 1] or [N, H, W, 3], got {x.shape}")
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind not in "biuf":
        raise ValueError(f"{path}: {key}: expected numbers from 0 to 255, got dtype {x.dtype}; store uint8")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise ValueError(f"{path}: {key}: expected numbers from 0 to 255, got NaN or infinity; clean the array")
    low, high = x.min(), x.max()
    if low < 0 or high > 255 or (x.dtype.kind == "f" and high <= 1):
        raise ValueError(f"{path}: {key}: expected values from 0 to 255, got {low} to {high}; rescale and store uint8")
    return np.rint(x).astype(np.uint8)


def _as_labels(path: Path, key: str, y: np.ndarray, count: int) -> np.ndarray:
    """y as int64 [count]; accepts [count, 1] and floats that are whole numbers."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.shape != (count,):
        raise ValueError(f"{path}: {key}: expected one label per picture, [{count}], got {y.shape}")
    if y.dtype.kind not in "biuf" or not np.array_equal(y, np.rint(y)) or y.min() < -1:
        raise ValueError(f"{path}: {key}: expected class numbers 0, 1, ... (-1: no label), got others; store integers")
    return y.astype(np.int64)


def _tfds(name: str, size: int | None) -> Images:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            f"data {name!r}: neither 'digits' nor a path ending with .npz; as a tfds name it needs the package "
            "tensorflow-datasets; run: pip install tensorflow-datasets"
        ) from error
    try:
        builder = tfds.builder(name)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        raise ValueError(
            f"data: expected 'digits', a path ending with .npz or a tfds name, got {name!r}; tfds does not know it"
        ) from error
    builder.download_and_prepare()
    held_out = "test" if "test" in builder.info.splits else "validation"
    parts = []
    for split in ("train", held_out):
        pictures, labels = [], []
        for picture, label in tfds.as_numpy(builder.as_dataset(split=split, as_supervised=True)):
            pictures.append(resize(picture[None], size)[0])
            labels.append(label)
        if len({picture.shape for picture in pictures}) > 1:
            raise ValueError(f"data {name!r}: its pictures differ in size; give size, for example size=96")
        parts += [np.stack(pictures), np.asarray(labels, np.int64)]
    return Images(*parts)
