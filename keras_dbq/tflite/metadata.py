"""The metadata entry of our files: JSON, for people and tools. No reader needs it to run a file (docs/packing.md)."""

from __future__ import annotations

import json
from typing import Any

from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.params import FORMAT_VERSION

PACKING = "base3"
ROUNDING = "xnnpack"


def read(model: Any) -> dict[str, Any]:
    """Our entry; empty where there is none.

    Raises:
      ValueError: it is no JSON object.
    """
    return parse(fb.get_metadata(model, fb.METADATA_NAME))


def parse(stored: bytes | None) -> dict[str, Any]:
    """`read` of the entry's bytes, None where there is no entry."""
    try:
        entry = json.loads(stored) if stored else {}
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict):
        raise ValueError(f"metadata {fb.METADATA_NAME!r}: expected a JSON object, got {(stored or b'')[:40]!r}")
    return entry


def describe_packed(model: Any, format_version: int) -> None:
    """Says that the file is packed, and the latest version among its operators.

    The encoding is named only where the exporter had written one.
    """
    encoding = {"encoding": "packed"} if "encoding" in read(model) else {}
    describe(model, format_version, packing=PACKING, **encoding)


def describe(model: Any, format_version: int = FORMAT_VERSION, **facts: str) -> None:
    """Writes format version, rounding and further facts; other keys that an earlier writer put there stay."""
    entry = {**read(model), "format_version": format_version, "rounding": ROUNDING, **facts}
    fb.set_metadata(model, fb.METADATA_NAME, json.dumps(entry, separators=(",", ":"), sort_keys=True).encode())


def forget(model: Any) -> None:
    """Removes our entry."""
    model.metadata = [entry for entry in model.metadata or [] if fb.text(entry.name) != fb.METADATA_NAME]
