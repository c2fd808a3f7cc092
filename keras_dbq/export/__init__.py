"""Export: Keras -> int8 `.tflite` -> packed `.tflite`, a report of every byte, and the proof that nothing changed."""

import importlib
from typing import Any

_PUBLIC = {
    "export_tflite": "keras_dbq.export.api",
    "pack_tflite": "keras_dbq.tflite.pack",
    "unpack_tflite": "keras_dbq.tflite.unpack",
    "verify": "keras_dbq.runtime.verification",
    "VerificationError": "keras_dbq.runtime.verification",
    "VerificationReport": "keras_dbq.runtime.verification",
    "ExportReport": "keras_dbq.tflite.report",
    "LayerRow": "keras_dbq.tflite.report",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    # The packer needs no TensorFlow: names load on first use.
    if name not in _PUBLIC:
        raise AttributeError(f"module 'keras_dbq.export' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value
