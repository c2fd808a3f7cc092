"""Walks the flatbuffer of a `.tflite` file: every offset, vtable and length is looked at before it is followed.

The generated reader of the schema, and the runtime, follow offsets without looking: a file with one wrong byte can make
them read behind its end. source: the rules are those of flatbuffers' own verifier (offsets forward and inside of the
file, alignment, strings with a zero behind them).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from keras_dbq.structure.schema import OPTIONS, TABLES

IDENTIFIER = b"TFL3"
# choice: entries of lists, of which vectors that share their bytes can make more than the file has.
_MOST_ENTRIES = 1 << 20
_LONG = 64
_WIDTHS = {kind: struct.calcsize(kind) for kind in "bBhHiIqQfd"}
_U32, _I32, _HH = struct.Struct("<I"), struct.Struct("<i"), struct.Struct("<HH")


class Place(NamedTuple):
    """Bytes of the file, not copied."""

    start: int
    length: int


def read(data: bytes) -> SimpleNamespace:
    """The file's root table with everything below it, as plain objects; absent offsets are None.

    Raises:
      ValueError: one line, for whatever does not lie inside of the file.
    """
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise ValueError(f"expected a TFLite file (identifier TFL3 at byte 4), got {bytes(data[4:8])!r}")
    return _Reader(data).follow(0, "Model")


@lru_cache(maxsize=4096)
def _numbers(kind: str, count: int) -> struct.Struct:
    return struct.Struct(f"<{count}{kind}")


class _Reader:
    """Tables by position: what several tables share is read once, so that sharing cannot multiply the work."""

    def __init__(self, data: bytes):
        self.data, self.size = data, len(data)
        self.known: dict[tuple[int, str], Any] = {}
        self.left = max(_MOST_ENTRIES, len(data))

    def follow(self, at: int, name: str) -> Any:
        """The table that the offset at byte `at` leads to."""
        return self.table(self.target(at, name), name)

    def target(self, at: int, what: str) -> int:
        """Where the offset at byte `at` leads; its four bytes are known to be inside of the file."""
        found = at + int(_U32.unpack_from(self.data, at)[0])
        if found == at or found + 4 > self.size or found & 3:
            raise self.damaged(what, at, f"an offset to a place inside of the {self.size} bytes", found)
        return found

    def damaged(self, what: str, at: int, expected: str, got: object) -> ValueError:
        return ValueError(f"{what} at byte {at}: expected {expected}, got {got}; the file is damaged, export it again")

    def table(self, at: int, name: str) -> Any:
        """The table at byte `at`, its fields by name."""
        key = at, name
        if key not in self.known:
            slots, size = self.vtable(at, name)
            self.known[key] = SimpleNamespace(**dict(_absent(name)))
            self.fields(at, name, slots, size, self.known[key].__dict__)
        return self.known[key]

    def vtable(self, at: int, name: str) -> tuple[tuple[int, ...], int]:
        """Offsets of a table's fields (0 is absent), and its size in bytes."""
        start = at - int(_I32.unpack_from(self.data, at)[0])
        if start < 0 or start & 1 or start + 4 > self.size:
            raise self.damaged(name, at, f"a vtable inside of the {self.size} bytes", start)
        length, size = _HH.unpack_from(self.data, start)
        if length < 4 or length & 1 or start + length > self.size or size < 4 or at + size > self.size:
            raise self.damaged(name, at, f"a vtable and a table inside of the {self.size} bytes", (length, size))
        return _numbers("H", length // 2 - 2).unpack_from(self.data, start + 4), size

    def fields(self, at: int, name: str, slots: tuple[int, ...], size: int, values: dict[str, Any]) -> None:
        """Reads what is there into `values`."""
        for slot, field, kind, inner, width, take in _plan(name):
            if slot >= len(slots):
                continue
            offset = slots[slot]
            if not offset:
                continue
            place = at + offset
            if offset < 4 or offset + width > size or place % width:
                raise self.damaged(f"{name}, {field}", at, f"{width} aligned bytes of {size}", f"byte {offset}")
            if take is not None:
                values[field] = take.unpack_from(self.data, place)[0]
            elif kind == "union":
                values[field] = self.union(place, field, values)
            else:
                values[field] = _TAKE[kind](self, place, inner or f"{name}, {field}")

    def union(self, at: int, field: str, values: dict[str, Any]) -> Any:
        """The options of an operator or the details of a quantization, by the type that stands before them."""
        number = values.get(f"{field}_type", 0)
        name = OPTIONS.get(number, "") if field == "options" else ""
        if field == "details" and number == 2:
            name = "Blockwise"
        return self.follow(at, name if name in TABLES else "Any")

    def vector(self, at: int, what: str, width: int) -> Place:
        """Elements of `width` bytes behind the offset at byte `at`: where they start and how many there are."""
        start = self.target(at, what)
        count = int(_U32.unpack_from(self.data, start)[0])
        if start + 4 + count * width > self.size or (start + 4) % width:
            raise self.damaged(what, start, f"a vector inside of the {self.size} bytes", f"{count} elements")
        return Place(start + 4, count)

    def text(self, at: int, what: str) -> str:
        start, count = self.vector(at, what, 1)
        if start + count >= self.size or self.data[start + count] != 0:
            raise self.damaged(what, start, "a text with a zero behind it", f"{count} bytes without")
        try:
            return bytes(self.data[start : start + count]).decode()
        except UnicodeDecodeError:
            raise self.damaged(what, start, "a text in UTF-8", bytes(self.data[start : start + count][:20])) from None

    def tables(self, at: int, name: str) -> list[Any]:
        """The tables of a vector of offsets."""
        start, count = self.vector(at, name, 4)
        self.left -= count
        if self.left < 0:
            raise self.damaged(name, start, "a list that its file can hold", f"{count} tables")
        return [self.follow(start + 4 * i, name) for i in range(count)]

    def numbers(self, at: int, what: str, kind: str) -> Any:
        """A tuple, or where they are many an array that shares the file's bytes."""
        start, count = self.vector(at, what, _WIDTHS[kind])
        if count > _LONG and kind in "fq":
            return np.frombuffer(self.data, f"<{kind}{_WIDTHS[kind]}".replace("q", "i"), count, start)
        self.left -= count
        if self.left < 0:
            raise self.damaged(what, start, "a list that its file can hold", f"{count} numbers")
        return _numbers(kind, count).unpack_from(self.data, start)


_TAKE: dict[str, Callable[[_Reader, int, str], Any]] = {
    "text": _Reader.text,
    "place": lambda reader, at, what: reader.vector(at, what, 1),
    "table": _Reader.follow,
    "[table]": _Reader.tables,
    **{f"[{kind}]": partial(_Reader.numbers, kind=kind) for kind in "ifqB"},
}


@lru_cache(maxsize=256)
def _plan(name: str) -> tuple[tuple[int, str, str, str, int, struct.Struct | None], ...]:
    """Fields of a table with their width in bytes, and the struct of a number."""
    return tuple(
        (f.slot, f.name, f.kind, f.inner, _WIDTHS.get(f.kind, 4), _numbers(f.kind, 1) if len(f.kind) == 1 else None)
        for f in TABLES[name]
    )


@lru_cache(maxsize=256)
def _absent(name: str) -> tuple[tuple[str, Any], ...]:
    return tuple((field.name, field.default) for field in TABLES[name])
