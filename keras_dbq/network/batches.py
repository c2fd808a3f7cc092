"""Calibration data in whatever form it comes, as checked float32 batches that can be read several times."""

import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_dbq import _progress
from keras_dbq.compat import keras, tf

BATCH = 50


class Batches:
    """Calibration data as float32 batches of `BATCH` pictures, so that results do not depend on how they came.

    Memory holds one batch at a time: arrays are read in slices, data sets and other iterables are read anew for every
    pass, and what can be read only once (a generator) is kept in a temporary file.

    Args:
      data: array [N, ...] (or a list of arrays for a model of several inputs, or a dict of arrays by input name),
        tf.data.Dataset of batches, or iterable of batches; a batch may be (x, y) or (x, y, weights): only x is used.
      model: the model that will read it, for its input shapes.
      progress: show a bar for each pass; None: where the output is a terminal.

    Raises (all data is looked at first, so nothing was changed yet):
      ValueError: no pictures, an empty batch, NaN or infinity, a shape that does not fit the model's input, an endless
        data set.
      TypeError: nothing that gives batches.
    """

    def __init__(self, data: Any, model: keras.Model, progress: bool | None = None):
        self.shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
        self.names = [tensor._keras_history.layer.name for tensor in model.inputs]
        self.progress = _progress.is_shown(progress)
        self._source = self._readable(data)
        self.pictures = sum(len(batch[0]) for batch in self._checked_batches())
        if not self.pictures:
            raise ValueError("calibration data: expected at least one batch of pictures, got none")

    def __iter__(self) -> Iterator[list[tf.Tensor]]:
        held: list[list[np.ndarray]] = []
        for batch in self._checked_batches():
            held.append(batch)
            count = sum(len(part[0]) for part in held)
            if count < BATCH:
                continue
            joined = [np.concatenate(parts) for parts in zip(*held, strict=True)]
            for i in range(0, count - BATCH + 1, BATCH):
                yield [tf.constant(x[i : i + BATCH]) for x in joined]
            rest = count % BATCH
            held = [[x[count - rest :].copy() for x in joined]] if rest else []
        if held:
            yield [tf.constant(np.concatenate(parts)) for parts in zip(*held, strict=True)]

    def read(self, what: str) -> Iterator[list[tf.Tensor]]:
        """One pass, with a progress bar that says what is measured."""
        if not self.progress:
            yield from self
            return
        bar = _progress.bar(f"calibration, {self.pictures} pictures: {what}", self.pictures, "picture")
        for batch in self:
            yield batch
            bar.add(int(batch[0].shape[0]))

    def first(self) -> list[tf.Tensor]:
        """The first batch."""
        return next(iter(self))

    def _readable(self, data: Any) -> Any:
        """() -> iterator over raw batches, which can be asked for again."""
        if isinstance(data, dict):
            listed = self._listed(data)
            data = listed if len(listed) > 1 else listed[0]
        if isinstance(data, (np.ndarray, tf.Tensor)):
            array = np.asarray(data)
            if array.ndim != len(self.shapes[0]) + 1:
                raise ValueError(
                    f"calibration data: expected an array of shape [N, {', '.join(map(str, self.shapes[0]))}], got "
                    f"{array.shape}"
                )
            return lambda: (array[i : i + BATCH] for i in range(0, len(array), BATCH))
        if isinstance(data, (list, tuple)) and len(self.shapes) > 1 and len(data) == len(self.shapes):
            arrays = [np.asarray(x) for x in data]
            return lambda: ([x[i : i + BATCH] for x in arrays] for i in range(0, len(arrays[0]), BATCH))
        if isinstance(data, (str, bytes)) or not hasattr(data, "__iter__"):
            raise TypeError(
                f"calibration data: expected an array, a tf.data.Dataset or an iterable of batches, got "
                f"{type(data).__name__}"
            )
        if isinstance(data, tf.data.Dataset) and int(data.cardinality()) == tf.data.INFINITE_CARDINALITY:
            raise ValueError("calibration data: expected a data set that ends, got an endless one; use take(n)")
        if isinstance(data, Iterator):
            return _kept(self._checked(batch) for batch in data)
        return lambda: iter(data)

    def _listed(self, named: dict[str, Any]) -> list[Any]:
        """What is named after the model's inputs, in their order."""
        if not set(self.names) <= set(named):
            raise ValueError(
                f"calibration data: expected a dict with the model's inputs {', '.join(self.names)}, got "
                f"{', '.join(map(str, named))}"
            )
        return [named[name] for name in self.names]

    def _checked_batches(self) -> Iterator[list[np.ndarray]]:
        return (self._checked(batch) for batch in self._source())

    def _checked(self, batch: Any) -> list[np.ndarray]:
        several = len(self.shapes) > 1
        if isinstance(batch, (tuple, list)) and not several:
            batch = batch[0]
        elif several and isinstance(batch, tuple) and isinstance(batch[0], (tuple, list)):
            batch = batch[0]
        elif several and isinstance(batch, (tuple, list)) and isinstance(batch[0], dict):
            batch = batch[0]
        if isinstance(batch, dict):
            arrays = self._listed(batch)
        else:
            arrays = list(batch) if several else [batch]
        result = []
        for array, shape in zip(arrays, self.shapes, strict=True):
            array = np.asarray(array).astype(np.float32)
            if array.ndim == len(shape):
                array = array[None]  # one picture instead of a batch
            fits = array.ndim == len(shape) + 1 and all(
                want is None or want == got for want, got in zip(shape, array.shape[1:], strict=True)
            )
            if not fits:
                wanted = ", ".join(["N", *map(str, shape)])
                raise ValueError(f"calibration data: expected batches of shape [{wanted}], got {list(array.shape)}")
            if not len(array):
                raise ValueError("calibration data: expected pictures in every batch, got an empty batch")
            if not np.isfinite(array).all():
                raise ValueError("calibration data: expected finite numbers, got NaN or infinity")
            result.append(array)
        return result


def _kept(batches: Iterator[list[np.ndarray]]) -> Any:
    """() -> iterator over batches that could be read only once; they lie in a file that goes with the process."""
    file = tempfile.TemporaryFile()
    count = 0
    for arrays in batches:
        for array in arrays:
            np.save(file, array, allow_pickle=False)
        count, width = count + 1, len(arrays)

    def read() -> Iterator[list[np.ndarray]]:
        place = 0
        for _ in range(count):
            file.seek(place)
            arrays = [np.load(file, allow_pickle=False) for _ in range(width)]
            place = file.tell()
            yield arrays if width > 1 else arrays[0]

    return read
