"""Pictures from a folder, a file or tensorflow-datasets, in the size and the range that a network takes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_dbq import _progress
from keras_dbq.command.range_search import find_range
from keras_dbq.command.ranges import RANGES, scaled
from keras_dbq.compat import keras, tf
from keras_dbq.datasets import catalogue, folders
from keras_dbq.datasets.arrays import with_channels
from keras_dbq.datasets.resizing import fitted, resize
from keras_dbq.network import graph

AS_GIVEN = "as given"
_USUAL_NAMES = ("x_train", "x", "images", "x_test")
_LOOKED_AT = 64  # pictures that tell the range


@dataclass(frozen=True)
class Pictures:
    """x: float32 [N, ...], or a list of arrays of a network with several inputs.  found: how the range is known."""

    x: Any
    source: str
    range: str
    found: str

    @property
    def count(self) -> int:
        """Number of examples."""
        return len(self.x[0] if isinstance(self.x, list) else self.x)

    def first(self, count: int) -> Any:
        """x of the first `count` examples."""
        return self._part(slice(count))

    def behind(self, count: int) -> Any:
        """x of the examples behind the first `count`."""
        return self._part(slice(count, None))

    def _part(self, part: slice) -> Any:
        return [a[part] for a in self.x] if isinstance(self.x, list) else self.x[part]

    def __str__(self) -> str:
        return f"{self.count} examples of {self.source}, range {self.range} ({self.found})"


def read(spec: str, model: keras.Model, count: int, range_name: str | None = None, seed: int = 0) -> Pictures:
    """Up to `count` examples for a model.

    Args:
      spec: a folder with photos at any depth, an .npz or .npy file, or a tfds name. Numbers that are no integers are
        taken as the network takes them; integers are pictures of 0..255. An .npz with the names of all inputs serves a
        network of several.
      range_name: of `ranges.RANGES`; None: found out.
      seed: of the choice among more than `count` photos.

    Raises:
      ValueError: no such data, shapes that do not fit, or a range that does not show and was not given.
    """
    if count < 1:
        raise ValueError(f"pictures: expected at least 1, got {count}")
    if Path(spec).suffix in (".npz", ".npy"):
        arrays = _from_file(spec, model, count, seed)
        if arrays[0].dtype.kind == "f" or len(arrays) > 1:
            x = [a.astype(np.float32) for a in arrays]
            return Pictures(x if len(x) > 1 else x[0], spec, AS_GIVEN, "the file holds no integers")
        raw = _in_size(arrays[0], model)
    else:
        raw = _photos(spec, model, count, seed)
    name, found = (range_name, "as asked") if range_name else (_range(model, raw), "found from the network")
    return Pictures(scaled(raw, name), spec, name, found)


def _range(model: keras.Model, raw: np.ndarray) -> str:
    name = find_range(graph.flat_copy(model), raw[:_LOOKED_AT])
    if name is None and sys.stdin.isatty():
        print(f"How does the network take its pictures? {', '.join(RANGES)}: ", end="", flush=True)
        name = sys.stdin.readline().strip()
    if name is None:
        raise ValueError(
            "range: the network does not show how its pictures are scaled (no Rescaling at its start, no batch norm "
            f"that fits one range clearly); give --range, one of {', '.join(RANGES)}"
        )
    return name


def _input_shape(model: keras.Model) -> tuple[int, int, int]:
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][2] not in (1, 3):
        raise ValueError(
            f"data: photos are for networks of one input [height, width, 1 or 3], got {shapes}; give an .npz with an "
            f"array for each input: {', '.join(graph.input_names(model))}"
        )
    if None in shapes[0]:
        raise ValueError(
            f"data: expected a network of fixed input size, got {shapes[0]}; build it with the size that it will run at"
        )
    return shapes[0]


# files of arrays


def _from_file(spec: str, model: keras.Model, count: int, seed: int) -> list[np.ndarray]:
    """One array per input, of `count` examples at most."""
    if not Path(spec).is_file():
        raise ValueError(f"data: expected a file at {spec}, found none; check the path")
    stored = np.load(spec, allow_pickle=False)
    arrays = [stored] if isinstance(stored, np.ndarray) else _of_npz(spec, stored, model)
    lengths = {len(a) if a.ndim else 0 for a in arrays}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"{spec}: expected arrays of one length of at least 1, got {sorted(lengths)}")
    chosen = _chosen(len(arrays[0]), count, seed)
    return [_finite(spec, a[chosen]) for a in arrays]


def _of_npz(spec: str, stored: Any, model: keras.Model) -> list[np.ndarray]:
    names = graph.input_names(model)
    if all(name in stored.files for name in names):
        return [stored[name] for name in names]
    known = [name for name in _USUAL_NAMES if name in stored.files] or stored.files
    if len(names) == 1 and (known[0] in _USUAL_NAMES or len(stored.files) == 1):
        return [stored[known[0]]]
    raise ValueError(
        f"{spec}: expected arrays with the names of the inputs ({', '.join(names)}), or one of "
        f"{', '.join(_USUAL_NAMES)} for a network of one input; got {', '.join(stored.files)}"
    )


def _finite(spec: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "buif" or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        raise ValueError(f"{spec}: expected finite numbers, got {array.dtype} with NaN, infinity or others")
    return array


def _in_size(array: np.ndarray, model: keras.Model) -> np.ndarray:
    height, width, channels = _input_shape(model)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[3] not in (1, 3) or array.min() < 0 or array.max() > 255:
        raise ValueError(f"data: expected pictures [N, H, W, 1 or 3] of 0..255, got {array.shape} of {array.dtype}")
    array = array.astype(np.uint8)
    if array.shape[1:3] == (height, width):
        return with_channels(array, channels)
    if height != width:
        raise ValueError(f"data: expected pictures of {height} x {width}, got {array.shape[1]} x {array.shape[2]}")
    return with_channels(resize(array, height), channels)


def _chosen(total: int, count: int, seed: int) -> np.ndarray:
    """Indices of up to `count` of `total`, in their order."""
    if total <= count:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, count, replace=False))


# photos


def _photos(spec: str, model: keras.Model, count: int, seed: int) -> np.ndarray:
    """uint8 [N, H, W, C]."""
    height, width, channels = _input_shape(model)
    if height != width:
        raise ValueError(f"data: photos are cut to squares, the network takes {height} x {width}; give an .npz")
    if not Path(spec).is_dir():
        data = catalogue.from_tfds(spec, "train", height, channels).ordered(None).take(count)
        return np.stack([picture.numpy() for picture, _ in data])
    found = sorted(f for f in Path(spec).rglob("*") if f.suffix.lower() in folders.ENDINGS)
    if not found:
        raise ValueError(f"{spec}: expected photos ({', '.join(folders.ENDINGS)}) at any depth, got none")
    files = [found[i] for i in _chosen(len(found), count, seed)]
    return np.stack([_decoded(f, height, channels) for f in _progress.over(files, "reading photos", "photo")])


def _decoded(file: Path, size: int, channels: int) -> np.ndarray:
    """The largest square in the middle of a photo, resized (choice: what people do before MobileNets)."""
    try:
        picture = tf.io.decode_image(tf.io.read_file(str(file)), 3, expand_animations=False)
    except tf.errors.InvalidArgumentError as error:
        reason = error.message.split("[Op:")[0].strip()
        raise ValueError(f"{file}: expected a photo, got a file that cannot be decoded ({reason[:80]})") from None
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return fitted(picture[top : top + side, left : left + side], size, channels).numpy()
