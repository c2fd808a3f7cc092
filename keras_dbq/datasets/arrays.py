"""Picture sets that lie in memory: scikit-learn's digits, and the arrays of an .npz."""

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


def with_channels(pictures: np.ndarray, channels: int | None) -> np.ndarray:
    """uint8 [N, H, W, channels]: grey repeated, or colour averaged to grey."""
    if channels is None or pictures.shape[3] == channels:
        return pictures
    if channels == 3:
        return np.repeat(pictures, 3, axis=3)
    return np.rint(pictures.mean(axis=3, keepdims=True)).astype(np.uint8)


def digits(seed: int) -> Images:
    """Scikit-learn's 1,797 handwritten digits, 8 x 8; a fifth of each class is the test part.

    Raises ImportError where scikit-learn is missing.
    """
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


def npz(path: Path) -> Images:
    """The arrays x_train, y_train, x_test, y_test of a file.

    Raises ValueError: no such file, a missing key, wrong shapes or types, NaN, or values outside 0..255.
    """
    if not path.is_file():
        raise ValueError(
            f"data: expected a file at {path}, found none; give 'digits', the path of an .npz or a folder, or a tfds "
            "name"
        )
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
