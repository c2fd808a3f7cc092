"""The delegate's shared object: where it is, and its quick look at a file."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from keras_dbq.structure import check_file

_FOLDER = Path(__file__).resolve().parents[1]
_NAME = "libdbq_delegate.so"


def library() -> Path:
    """Where the shared object is, or would be."""
    return _FOLDER / _NAME


def check(content: bytes) -> None:
    """Refuses a damaged file, as `structure.check_file` does, in a hundredth of its time for most whole files.

    The shared object says of most whole files that they are whole (tflite_ops/structure/check.h). Of all others
    `check_file` decides, and says what is wrong: the two cannot disagree in a message.

    Raises:
        ValueError: one line: what, expected, got.
    """
    if not is_surely_whole(content):
        check_file(content)


def is_surely_whole(content: bytes) -> bool:
    """True where the shared object is there and vouches for the file; `check_file` would take it."""
    ask = _question(str(library()))
    return ask is not None and ask(content, len(content)) == 1


@lru_cache(maxsize=4)
def _question(path: str) -> Callable[[bytes, int], int] | None:
    """The shared object's function; None where there is none, or an old one without it."""
    try:
        ask = ctypes.CDLL(path).dbq_file_is_whole
    except (OSError, AttributeError):
        return None
    ask.argtypes, ask.restype = [ctypes.c_char_p, ctypes.c_size_t], ctypes.c_int
    return ask
