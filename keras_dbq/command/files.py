"""`inspect`, `pack`, `unpack`: files alone, without TensorFlow."""

from __future__ import annotations

import argparse
from typing import Any

from keras_dbq.command.outcome import Command, Outcome, add_output, check_output
from keras_dbq.tflite.contents import contents
from keras_dbq.tflite.pack import pack_tflite
from keras_dbq.tflite.unpack import unpack_tflite


def inspect(flags: argparse.Namespace) -> Outcome:
    """Operators, encodings, grids and bytes of any `.tflite` file."""
    found = contents(flags.file)
    return Outcome(f"{flags.file}: {found.file_bytes:,} bytes\n\n{found}", {"file": flags.file, **found.to_dict()})


def pack(flags: argparse.Namespace) -> Outcome:
    """Packs the ternary layers of an int8 file, whoever wrote it."""
    check_output(flags.output, flags.force)
    report = pack_tflite(flags.file, flags.output)
    packed = sum(row.encoding.startswith("packed") for row in report.layers)
    data = {"file": flags.file, "output": flags.output, "packed_layers": packed, **report.to_dict()}
    return Outcome(f"{report}\n{flags.output}: {packed} of {len(report.layers)} layers with weights packed", data)


def unpack(flags: argparse.Namespace) -> Outcome:
    """The int8 file of builtin operators that computes the same integers."""
    check_output(flags.output, flags.force)
    data: dict[str, Any] = {"file": flags.file, "output": flags.output}
    size = data["file_bytes"] = len(unpack_tflite(flags.file, flags.output))
    return Outcome(f"{flags.output}: {size:,} bytes, int8, for the stock interpreter", data)


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a .tflite file")


def _add_both(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    add_output(parser, required=True)


COMMANDS = [
    Command("inspect", "list the operators, encodings, grids and bytes of a .tflite file", _add_file, inspect),
    Command("pack", "pack the ternary layers of an int8 .tflite file, whoever wrote it", _add_both, pack),
    Command("unpack", "turn a packed file into the int8 file that computes the same", _add_both, unpack),
]
