"""keras_dbq: low-bit quantization for Keras, from `model.fit` to a file that runs on a phone.

Public names are loaded on first use, so that `keras_dbq.reference` (numpy only) works without TensorFlow.
"""

import importlib
import os

from keras_dbq import _moved, _stand_ins

# tfmot works with Keras 2 only; this takes effect when TensorFlow has not been imported yet.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
_stand_ins.register_with_keras()
_moved.register()

__version__ = "0.1.0"

# One public name a line: name -> module that defines it.
_PUBLIC = {
    "DBQScheme": "keras_dbq.schemes",
    "FATScheme": "keras_dbq.schemes",
    "TSQScheme": "keras_dbq.schemes",
    "TernaryRuleScheme": "keras_dbq.schemes",
    "check": "keras_dbq.quantize",
    "quantize_model": "keras_dbq.quantize",
    "quantize_scope": "keras_dbq.quantize",
    "initialize": "keras_dbq.quantize",
    "solve_ternary": "keras_dbq.solving",
    "reconstruct": "keras_dbq.training.reconstruction",
    "from_keras3": "keras_dbq.keras3",
    "distill": "keras_dbq.training.distillation",
    "Distiller": "keras_dbq.training.distiller",
    "calibrate_answers": "keras_dbq.training.answer_range",
    "fold_batch_norms": "keras_dbq.prepare.folding",
    "rescale_depthwise": "keras_dbq.prepare.rescaling",
    "equalize": "keras_dbq.prepare.rescaling",
    "even_ranges": "keras_dbq.prepare.ranges",
    "fill_dead_channels": "keras_dbq.prepare.filling",
    "change_basis": "keras_dbq.prepare.basis",
    "set_temperature": "keras_dbq.wrapping.temperature",
    "get_ternary_weights": "keras_dbq.inspection",
    "integer_weights": "keras_dbq.inspection",
    "profile": "keras_dbq.inspection",
    "summary": "keras_dbq.inspection",
    "explain": "keras_dbq.inspection",
    "report": "keras_dbq.reporting",
    "freeze": "keras_dbq.wrapping.freezing",
    "strip": "keras_dbq.wrapping.strip",
    "export_tflite": "keras_dbq.export",
    "pack_tflite": "keras_dbq.export",
    "verify": "keras_dbq.export",
    "Interpreter": "keras_dbq.runtime.interpreter",
}
_SUBMODULES = {
    "branch_ops",
    "calibration",
    "callbacks",
    "distillation",
    "export",
    "interpreter",
    "quantize_configs",
    "quantizers",
    "reference",
    "schedules",
}

__all__ = sorted([*_PUBLIC, *_SUBMODULES])


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
    elif name in _SUBMODULES:
        value = importlib.import_module(f"keras_dbq.{name}")
    else:
        raise AttributeError(f"module 'keras_dbq' has no attribute {name!r}; public names: {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
