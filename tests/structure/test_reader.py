"""Offsets, vtables, vectors and texts: everything is inside of the file, or refused."""

import struct

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as generated

from keras_dbq.structure import schema
from keras_dbq.structure.reader import read
from tests.structure.files import corpus

DATA = corpus("joins_packed_2")


def changed(at: int, kind: str, value: int) -> bytes:
    data = bytearray(DATA)
    struct.pack_into(kind, data, at, value)
    return bytes(data)


def number(at: int, kind: str = "<I") -> int:
    return struct.unpack_from(kind, DATA, at)[0]


ROOT = number(0)
VTABLE = ROOT - number(ROOT, "<i")


def place_of(slot: int) -> int:
    """Byte of a field of the root table."""
    return ROOT + number(VTABLE + 4 + 2 * slot, "<H")


def behind(at: int) -> int:
    """Where the offset at a byte leads."""
    return at + number(at)


def test_reads_what_the_generated_reader_reads():
    ours, theirs = read(DATA), generated.ModelT.InitFromPackedBuf(DATA, 0)
    for a, b in zip(ours.subgraphs[0].tensors, theirs.subgraphs[0].tensors, strict=True):
        assert a.shape == tuple(b.shape) and a.type == b.type and a.buffer == b.buffer
        assert (a.name or "").encode() == (b.name or b"")
    for a, b in zip(ours.subgraphs[0].operators, theirs.subgraphs[0].operators, strict=True):
        assert a.inputs == tuple(b.inputs) and a.outputs == tuple(b.outputs)
        assert a.options_type == b.builtinOptionsType
    for a, b in zip(ours.buffers, theirs.buffers, strict=True):
        stored = b"" if a.data is None else DATA[a.data.start : a.data.start + a.data.length]
        assert stored == (b"" if b.data is None else np.asarray(b.data, np.uint8).tobytes())


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "expected a TFLite file"),
        (b"\x10\x00\x00\x00TFL2" + bytes(64), "got b'TFL2'"),
        (changed(0, "<I", 0), "Model at byte 0: expected an offset to a place inside"),
        (changed(0, "<I", len(DATA)), "Model at byte 0: expected an offset to a place inside"),
        (changed(0, "<I", 2**32 - 4), "Model at byte 0: expected an offset to a place inside"),
        (changed(0, "<I", ROOT + 1), "Model at byte 0: expected an offset to a place inside"),
        (changed(ROOT, "<i", 2**31 - 1), "expected a vtable inside of"),
        (changed(ROOT, "<i", -(2**31)), "expected a vtable inside of"),
        (changed(VTABLE, "<H", 65534), "expected a vtable and a table inside of"),
        (changed(VTABLE, "<H", 3), "expected a vtable and a table inside of"),
        (changed(VTABLE + 2, "<H", 2), "expected a vtable and a table inside of"),
        (changed(VTABLE + 4, "<H", 60000), "Model, version at byte .*: expected 4 aligned bytes of"),
        (changed(VTABLE + 4, "<H", 3), "Model, version at byte .*: expected 4 aligned bytes of"),
        (changed(behind(place_of(1)), "<I", 2**30), "OperatorCode at byte .*: expected a vector inside of"),
        (changed(behind(place_of(1)) + 4, "<I", 2**30), "OperatorCode at byte .*: expected an offset to a place"),
    ],
)
def test_what_leads_out_of_the_file(data, message):
    with pytest.raises(ValueError, match=message) as error:
        read(data)
    assert "\n" not in str(error.value)


def test_a_text_needs_its_zero_and_utf_8():
    at = DATA.index(b"depthwise")
    with pytest.raises(ValueError, match="expected a text with a zero behind it"):
        read(changed(at + len(b"depthwise"), "<B", 65))
    with pytest.raises(ValueError, match="expected a text in UTF-8"):
        read(changed(at, "<B", 0xFF))


def test_lists_that_share_their_bytes_are_bounded():
    """A vector of as many offsets as the file can hold, all to one table: one table is read."""
    count = 5000
    table = struct.pack("<HH", 4, 4) + struct.pack("<i", 4)  # an empty vtable, a table without fields
    root = 8 + struct.calcsize("<HHHHH") + 2
    vtable = struct.pack("<HHHHHxx", 10, 8, 0, 0, 4)
    vector = root + 8
    start = vector + 4 + 4 * count
    offsets = b"".join(struct.pack("<I", start + 4 - (vector + 4 + 4 * i)) for i in range(count))
    data = struct.pack("<I4s", root, b"TFL3") + vtable + struct.pack("<iI", root - 8, 4) + struct.pack("<I", count)
    graphs = read(data + offsets + table).subgraphs
    assert len(graphs) == count and len(set(map(id, graphs))) == 1


def test_the_table_of_fields_is_the_schemas():
    """Slots and names of what is read, against the schema's own generated code."""
    text = open(generated.__file__).read()
    for table in (
        "Conv2DOptions",
        "Pool2DOptions",
        "Tensor",
        "Operator",
        "StridedSliceOptions",
        "ResizeBilinearOptions",
    ):
        for field in schema.TABLES[table]:
            assert f"def {table}Add" in text and f"Slot({field.slot}, " in text
    assert schema.OPTIONS_OF["CONV_2D"] == "Conv2DOptions" and schema.OPTIONS_OF["MEAN"] == "ReducerOptions"
    assert "RELU" not in schema.OPTIONS_OF and schema.OPTIONS_OF["MAXIMUM"] == "MaximumMinimumOptions"
