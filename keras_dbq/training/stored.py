"""Tensors of many pictures on disk, in half precision, read by picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_dbq.compat import tf

BATCH = 50


class Stored:
    """float16 [N, ...] in a file; `stored[places]` is float32.

    Args:
      path: of the file, which is written anew.  parts: arrays [n, ...] of float32 that make N together.
      count: N.
    """

    def __init__(self, path: Path, parts: Iterator[np.ndarray], count: int):
        self.path, written = path, 0
        for part in parts:
            if not written:
                self.values = np.lib.format.open_memmap(path, "w+", np.float16, (count, *part.shape[1:]))
            limit = np.finfo(np.float16).max
            self.values[written : written + len(part)] = np.clip(part, -limit, limit)
            written += len(part)
        assert written == count, (written, count)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, places: Any) -> np.ndarray:
        return np.asarray(self.values[places], np.float32)

    def through(self, function: Callable[[Any], Any], path: Path) -> Stored:
        """What the function makes of it, batch by batch."""
        starts = range(0, len(self), BATCH)
        parts = (np.asarray(function(tf.constant(self[i : i + BATCH]))) for i in starts)
        return Stored(path, parts, len(self))

    def remove(self) -> None:
        """Deletes the file."""
        del self.values
        self.path.unlink()
