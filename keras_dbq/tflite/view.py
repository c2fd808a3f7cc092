"""Tables of a file that is known to be whole, read where they lie.

The generated classes of the schema take ten times as long for the few fields that a load needs, and copying all of the
file into objects takes longer than everything else of a load.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from keras_dbq.structure.schema import TABLES, Field

_U32, _I32, _U16 = (struct.Struct(f"<{kind}").unpack_from for kind in "IiH")


class Tables:
    """A vector of tables; each is made when it is asked for."""

    __slots__ = ("_data", "_name", "_start", "count")

    def __init__(self, name: str, data: bytes, at: int):
        self._data, self._name = data, name
        start = at + _U32(data, at)[0]
        self._start, self.count = start + 4, _U32(data, start)[0]

    def __len__(self) -> int:
        return int(self.count)

    def __getitem__(self, i: int) -> View:
        if not 0 <= i < self.count:
            raise IndexError(i)
        return View(self._name, self._data, self._start + 4 * i)

    def __iter__(self) -> Iterator[View]:
        return map(self.__getitem__, range(self.count))


class View:
    """One table.

    Args:
      name: the table's in `structure.schema.TABLES`.
      data: a whole file (`structure.check_file`): nothing is checked here.
      at: byte of the offset that leads to the table; the file's own, "Model", stands at 0.
    """

    __slots__ = ("_data", "_end", "_fields", "_slots", "_start")

    def __init__(self, name: str, data: bytes, at: int = 0):
        self._data, self._fields = data, _ACCESS[name]
        self._start = at + _U32(data, at)[0]
        self._slots = self._start - _I32(data, self._start)[0]
        self._end = _U16(data, self._slots)[0]

    def get(self, field: str) -> Any:
        """A number, View, Tables, a text as bytes, bytes, or a vector's numbers; None, or the default, where absent.

        Raises:
          KeyError: no such field, or a union, whose table another field names.
        """
        access = self._fields[field]
        offset = _U16(self._data, self._slots + access.slot)[0] if access.slot < self._end else 0
        return access.take(self._data, self._start + offset) if offset else access.absent


class _Access(NamedTuple):
    """How a field is read: where its offset stands in a vtable, and what is taken from its place."""

    slot: int
    take: Callable[[bytes, int], Any]
    absent: Any


def _number(unpack: Callable[[bytes, int], tuple[Any, ...]], data: bytes, at: int) -> Any:
    return unpack(data, at)[0]


def _bytes(data: bytes, at: int) -> bytes:
    start = at + _U32(data, at)[0] + 4
    return data[start : start + _U32(data, start - 4)[0]]


def _numbers(kind: str, data: bytes, at: int) -> tuple[Any, ...]:
    start = at + _U32(data, at)[0]
    return struct.unpack_from(f"<{_U32(data, start)[0]}{kind}", data, start + 4)


def _access(field: Field) -> _Access:
    take: Callable[[bytes, int], Any]
    if field.kind in ("text", "place"):
        take = _bytes
    elif field.kind == "table":
        take = partial(View, field.inner)
    elif field.kind == "[table]":
        take = partial(Tables, field.inner)
    elif field.kind[0] == "[":
        take = partial(_numbers, field.kind[1])
    else:
        take = partial(_number, struct.Struct(f"<{field.kind}").unpack_from)
    return _Access(4 + 2 * field.slot, take, field.default)


_ACCESS = {name: {f.name: _access(f) for f in fields if f.kind != "union"} for name, fields in TABLES.items()}
