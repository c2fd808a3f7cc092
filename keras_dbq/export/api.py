"""`export_tflite`: the one call from a quantized Keras model to a file."""

from __future__ import annotations

import os
from dataclasses import replace

from keras_dbq import _checks
from keras_dbq._files import check_path, write_file
from keras_dbq.compat import keras
from keras_dbq.export.biases import round_biases
from keras_dbq.export.convert import Conversion, convert
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite import metadata
from keras_dbq.tflite.operators import BUILTIN_OPS
from keras_dbq.tflite.pack import pack_bytes
from keras_dbq.tflite.report import ExportReport, warn_sparse
from keras_dbq.tflite.slim import slim

ENCODINGS = ("packed", "int8")


def export_tflite(
    q_model: keras.Model,
    path: str | os.PathLike | None,
    encoding: str = "packed",
    strict: bool = False,
    *,
    round_model_biases: bool = True,
) -> ExportReport:
    """Writes a quantized model as a full-integer `.tflite`.

    Args:
      q_model: from `quantize_model` (or tfmot's quantize_apply with our scheme), trained or not.
      path: the file; it appears only when complete. None writes nothing (the report's `data` holds the bytes).
      encoding: "packed" (the layers that the scheme made ternary as Dbq operators, see docs/packing.md) or "int8"
        (stock operators only). A model without ternary layers gives the same file in both.
      strict: raise when anything between input and output stays float, or when a ternary layer is not packed (for
        "int8": does not hold ternary integers).
      round_model_biases: also move the model's own biases onto the file's integer grid, by at most half an integer
        step (choice: so that Keras computes what the file computes; repeatable, training goes on from there).

    Returns:
      ExportReport: print it for a table of every layer and every byte.

    Raises:
      TypeError: not a Keras model.
      ValueError: not quantized; unknown encoding; a path in no folder (before anything is done); strict and not met
        (it names the layers).
    """
    _checks.one_of("encoding", encoding, ENCODINGS)
    _checks.boolean("strict", strict)
    if path is not None:
        check_path(path)
    conversion = convert(q_model)
    if strict:
        _check_strict(conversion.floating)
    data = _slim(conversion.data)
    report = pack_bytes(data, strict, conversion.ternary_layers, only=True)
    if encoding == "int8":
        report = _int8_report(data, report)
    report = replace(report, findings=_findings(conversion))
    if path is not None:
        write_file(path, report.data)
    if round_model_biases:
        round_biases(q_model, conversion.biases)
    warn_sparse(report)
    return report


def _check_strict(floating: list[str]) -> None:
    if floating:
        raise ValueError(
            f"strict: expected integers between input and output, got {len(floating)} float operators: "
            f"{'; '.join(floating)}; quantize those layers, or export with strict=False"
        )


def _slim(data: bytes) -> bytes:
    """The int8 file with its metadata entry (the packer adds to it), without the bytes that no interpreter reads."""
    model = fb.load_model(data)
    metadata.describe(model, encoding="int8")
    slim(model)
    return fb.save_model(model, share=True)


def _int8_report(data: bytes, packed: ExportReport) -> ExportReport:
    """The report of the int8 file: the layers that the packer found, bytes as they are before packing."""
    rows = [
        replace(
            row,
            op=BUILTIN_OPS.get(row.op, row.op),
            encoding="int8" if row.branches else row.encoding,
            bytes_after=row.bytes_before,
        )
        for row in packed.layers
    ]
    other = packed.other_before
    return ExportReport("int8", rows, other, other, len(data), len(data), data=data)


def _findings(conversion: Conversion) -> list[str]:
    found = [f"float: {text}" for text in conversion.floating]
    return found + [f"requantized (int8 to another int8 scale): {name}" for name in conversion.requantized]
