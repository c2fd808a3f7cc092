"""The public interface as text: one line per public name, method and signature with defaults.

Public are `keras_dbq.__all__`, the `__all__` of every public module, and of public classes the constructor and every
method and property without a leading underscore that this package defines. Of schemes, quantizers and configs the
constructor alone counts: their methods are a protocol between rooms and with tfmot.

    python tests/api/interface.py > tests/api/interface.txt     # after a change that is meant
"""

import dataclasses
import inspect
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # the source tree, not this folder
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import importlib

import keras_dbq

# Modules whose names users write, beside those that keras_dbq.__all__ lists.
MODULES = ("datasets", "interpreter", "models")
# Classes from these have methods that users do not call.
PROTOCOLS = ("keras_dbq.quantizers", "keras_dbq.quantize_configs", "keras_dbq.wrapping", "keras_dbq.schemes")


def interface() -> list[str]:
    """All lines, sorted."""
    lines: set[str] = set()
    for name in keras_dbq.__all__:
        lines.update(_described(f"keras_dbq.{name}", getattr(keras_dbq, name)))
    modules = {name for name in keras_dbq.__all__ if isinstance(getattr(keras_dbq, name), types.ModuleType)}
    for name in sorted(modules | set(MODULES)):
        module = importlib.import_module(f"keras_dbq.{name}")
        for member in _members(module):
            lines.update(_described(f"keras_dbq.{name}.{member}", getattr(module, member)))
    return sorted(lines)


def _members(module: types.ModuleType) -> list[str]:
    """`__all__`, else what the module itself defines without a leading underscore."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    defined = [n for n, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__]
    constants = [n for n, v in vars(module).items() if n.isupper() and not callable(v)]
    return [n for n in (*defined, *constants) if not n.startswith("_")]


def _described(path: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        yield f"{path}{_signature(value) if _has_constructor(value) else ''}"
        if not value.__module__.startswith(PROTOCOLS):
            yield from _methods(path, value)
    else:
        yield f"{path}{_signature(value) if callable(value) else ''}"


def _methods(path: str, cls: type) -> Iterator[str]:
    for name in sorted(n for n in dir(cls) if not n.startswith("_")):
        definer = next(c for c in cls.__mro__ if name in vars(c))
        if not definer.__module__.startswith("keras_dbq"):
            continue
        member = vars(definer)[name]
        function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
        yield f"{path}.{name}{_signature(function) if inspect.isfunction(function) else ''}"


def _has_constructor(cls: type) -> bool:
    """Its arguments are this package's choice: an __init__ of ours, a dataclass, a named tuple."""
    ours = str(getattr(cls.__init__, "__module__", "")).startswith("keras_dbq")
    return ours or dataclasses.is_dataclass(cls) or hasattr(cls, "_fields")


def _signature(function: Any) -> str:
    """Parameters with defaults, without annotations and self: `(x, *, strict=False)`; nothing for a type's alias."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return ""
    kept = [p.replace(annotation=p.empty) for p in signature.parameters.values() if p.name not in ("self", "cls")]
    text = str(signature.replace(parameters=kept, return_annotation=signature.empty))
    return text.replace("<built-in function print>", "print").replace("<factory>", "...")


if __name__ == "__main__":
    print("\n".join(interface()))
