"""Lets `keras.models.load_model` find the layers of quantized models in a program that has only imported `keras_dbq`.

`import keras_dbq` loads neither TensorFlow nor Keras, because `keras_dbq.reference` needs neither; so at that time the
real classes cannot be registered. Once tf_keras is there, stand-ins go into its registry of custom objects. The first
layer that is loaded through one of them imports `keras_dbq.wrapping.serialization`, which puts the real classes in
their place.
"""

import importlib
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

# What a saved model calls the layers that quantize. Classes inside of their configs are looked up later.
LAYERS = (
    *("QuantizeLayer", "QuantizeWrapper", "QuantizeWrapperV2"),
    *("keras_dbq>QuantizeTensor", "keras_dbq>CodeTable", "keras_dbq>NamedOutput"),
)


def _stand_in(name: str) -> type:
    def from_config(cls: type, config: dict[str, Any]) -> Any:
        importlib.import_module("keras_dbq.wrapping.serialization")
        return _registry()[name].from_config(config)

    return type(f"StandInFor{name.rpartition('>')[2]}", (), {"from_config": classmethod(from_config)})


def _registry() -> dict[str, Any]:
    return sys.modules["tf_keras"].utils.get_custom_objects()


def _register() -> None:
    for name in LAYERS:
        _registry().setdefault(name, _stand_in(name))


class _BeforeKeras:
    """A finder of modules for tf_keras alone: what the usual ones find, and the stand-ins are registered behind it."""

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "tf_keras":
            return None
        # PathFinder and not importlib.util.find_spec, which would ask this finder again.
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_register(module: Any) -> None:
                load(module)
                _register()

            # Of this spec only; TensorFlow looks for specs that it does not load.
            setattr(spec.loader, "exec_module", load_and_register)  # noqa: B010  (mypy: a method is assigned to)
        return spec


def register_with_keras() -> None:
    """Registers the stand-ins now, or as soon as tf_keras is imported."""
    if "tf_keras" in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _BeforeKeras)
