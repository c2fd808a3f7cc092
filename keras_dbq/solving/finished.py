"""What of a long run is done: a folder with a file for each finished part, there completely or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_dbq._files import write_file


class Finished:
    """The finished parts of one run, by number.

    Args:
      workdir: folder, made where it is missing; None keeps nothing.
      run: what the run is of, as JSON values; a folder of another run is refused.
      function: for messages.

    Raises:
      ValueError: the folder holds another run, or something else has its name.
    """

    def __init__(self, workdir: str | os.PathLike | None, run: dict[str, Any], function: str):
        self.folder = None if workdir is None else Path(workdir)
        if self.folder is None:
            return
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{function}: workdir: expected a folder, got the file {str(workdir)!r}; use another name")
        self.folder.mkdir(parents=True, exist_ok=True)
        note = self.folder / "run.json"
        if not note.is_file():
            write_file(note, json.dumps(run, indent=1).encode())
            return
        before = json.loads(note.read_text())
        other = [name for name in sorted(run.keys() | before.keys()) if before.get(name) != run.get(name)]
        if other:
            raise ValueError(
                f"{function}: workdir {str(workdir)!r}: expected a run with the same settings, got one with another "
                f"{', another '.join(other)}; use another folder, or empty it"
            )

    def load(self, number: int) -> list[np.ndarray] | None:
        """What was saved of part `number`; None where it is not done."""
        path = self._path(number)
        if path is None or not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as stored:
            return [stored[f"arr_{i}"] for i in range(len(stored.files))]

    def save(self, number: int, arrays: Sequence[Any]) -> None:
        """Part `number` is done, with this result."""
        path = self._path(number)
        if path is not None:
            stream = io.BytesIO()
            np.savez(stream, *(np.asarray(array) for array in arrays))
            write_file(path, stream.getvalue())

    def _path(self, number: int) -> Path | None:
        return None if self.folder is None else self.folder / f"part_{number:04d}.npz"


def digest(arrays: Iterable[np.ndarray]) -> str:
    """A short name of the values of arrays."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(str((array.shape, array.dtype)).encode() + np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:16]
