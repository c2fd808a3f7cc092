"""Module paths of version 0.1 that have moved since: `import keras_dbq.branch_ops` gives `keras_dbq.ops.branches`."""

import importlib
import sys
from importlib.machinery import ModuleSpec
from typing import Any

# Old path -> new path, both below keras_dbq.
MOVED = {
    "activation_ops": "ops.activations",
    "branch_ops": "ops.branches",
    "calibration.batches": "network.batches",
    "callbacks": "training.callbacks",
    "distillation": "training.distillation",
    "export.flatbuffer": "tflite.flatbuffer",
    "export.levels": "tflite.levels",
    "export.naming": "wrapping.naming",
    "export.pack": "tflite.pack",
    "export.report": "tflite.report",
    "export.slim": "tflite.slim",
    "export.unpack": "tflite.unpack",
    "export.verification": "runtime.verification",
    "filling": "prepare.filling",
    "folding": "prepare.folding",
    "graph": "network.graph",
    "interpreter": "runtime.interpreter",
    "layer_roles": "network.roles",
    "layers": "wrapping.layers",
    "quantize_configs": "wrapping.quantize_configs",
    "rescaling": "prepare.rescaling",
    "schedules": "training.schedules",
    "serialization": "wrapping.serialization",
    "threshold_ops": "ops.thresholds",
    "wrappers": "wrapping.wrappers",
}


class _Finder:
    """Finds a module under its old path; the module itself is the one under the new path, imported once."""

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        package, _, rest = name.partition(".")
        return ModuleSpec(name, cls) if package == "keras_dbq" and rest in MOVED else None  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        return None

    @staticmethod
    def exec_module(module: Any) -> None:
        # The import system takes from sys.modules what a loader leaves there.
        old = module.__name__
        sys.modules[old] = importlib.import_module(f"keras_dbq.{MOVED[old.partition('.')[2]]}")


def register() -> None:
    """Lets the import system find moved modules; done once, by `keras_dbq/__init__.py`."""
    if _Finder not in sys.meta_path:
        sys.meta_path.append(_Finder)  # type: ignore[arg-type]
