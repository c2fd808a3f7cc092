"""The delegate's shared object: where it is, or would be, the delegate that it gives, and its quick look at a file."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import NamedTuple

from keras_dbq.structure import check_file

# A text, made once: paths are put together in a tenth of the time that loading a small file takes.
PATH = str(Path(__file__).resolve().parents[1] / "libdbq_delegate.so")

_REPORT = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
_TEXTS = ctypes.POINTER(ctypes.c_char_p)


def is_built() -> bool:
    """Whether the shared object is there."""
    return PATH in _loaded or os.path.isfile(PATH)


_loaded: dict[str, ctypes.CDLL] = {}


def _library(path: str) -> ctypes.CDLL:
    """The functions of tflite_ops/delegate/delegate.h; OSError where there is no such file."""
    if path not in _loaded:
        _loaded[path] = _load(path)
    return _loaded[path]


def _load(path: str) -> ctypes.CDLL:
    library = ctypes.CDLL(path)
    library.tflite_plugin_create_delegate.argtypes = [_TEXTS, _TEXTS, ctypes.c_int, _REPORT]
    library.tflite_plugin_create_delegate.restype = ctypes.c_void_p
    library.tflite_plugin_destroy_delegate.argtypes = [ctypes.c_void_p]
    library.tflite_plugin_destroy_delegate.restype = None
    library.dbq_look_at_file.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    library.dbq_look_at_file.restype = ctypes.c_int
    return library


class Delegate:
    """The delegate for `experimental_delegates` of both runtimes, as their `load_delegate` gives it, in less time.

    Args:
      options: of tflite_ops/delegate/delegate.h.

    Raises:
      ValueError: an unknown option, or an instruction set that this processor lacks.
      OSError: the shared object is not there, or does not load.
    """

    _pointer: int | None = None

    def __init__(self, options: dict[str, str]):
        self._library = _library(PATH)
        texts = ctypes.c_char_p * len(options)
        keys, values = (texts(*map(str.encode, column)) for column in (options.keys(), options.values()))
        arguments = keys, values, len(options)
        self._pointer = self._library.tflite_plugin_create_delegate(*arguments, _REPORT())
        if self._pointer is None:  # asked again for the reason
            messages: list[bytes] = []
            self._library.tflite_plugin_create_delegate(*arguments, _REPORT(messages.append))
            raise ValueError(b"".join(messages).decode())

    def __del__(self) -> None:
        if self._pointer is not None:
            self._library.tflite_plugin_destroy_delegate(self._pointer)

    def _get_native_delegate_pointer(self) -> int | None:
        """What the runtimes' interpreters ask for."""
        return self._pointer


class Look(NamedTuple):
    """What the shared object says of a file."""

    whole: bool  # False: not sure
    names_outputs: bool  # whether its metadata may say what the outputs form; True where that is not sure


_NOT_SURE = Look(False, True)


def look(content: bytes) -> Look:
    """The shared object's quick look; not sure where it is not there, or an older one."""
    try:
        answer = _library(PATH).dbq_look_at_file(content, len(content))
    except (OSError, AttributeError):
        return _NOT_SURE
    return Look(True, answer > 1) if answer else _NOT_SURE


def check(content: bytes) -> Look:
    """Refuses a damaged file, as `structure.check_file` does, in a hundredth of its time for most whole files.

    The shared object says of most whole files that they are whole (tflite_ops/structure/check.h). Of all others
    `check_file` decides, and says what is wrong: the two cannot disagree in a message.

    Raises:
        ValueError: one line: what, expected, got.
    """
    found = look(content)
    if not found.whole:
        check_file(content)
    return found
