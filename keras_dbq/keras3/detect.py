"""Keras 3 models and files, told apart from tf_keras' without importing Keras 3."""

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from keras_dbq.keras3.missing import NoCounterpart


def is_keras3(value: Any) -> bool:
    """Whether this is a model of Keras 3, a subclassed one as well; Keras 3 is not imported for the answer."""
    module = sys.modules.get("keras")
    model = getattr(module, "Model", None)
    return isinstance(model, type) and model.__module__.startswith("keras.") and isinstance(value, model)


def is_builtin(operation: Any) -> bool:
    """Whether a layer or operation is one of Keras 3's own, and not a class that a user derived."""
    return type(operation).__module__.startswith("keras.src.")


def function_of(model: Any) -> Any:
    """The graph of a Functional or Sequential model of Keras 3: it has `_nodes_by_depth`, `inputs`, `outputs`.

    Raises NoCounterpart for a subclassed model, and for a Sequential that was not built.
    """
    own_call = type(model).call.__module__.startswith("keras.src.")
    if own_call and hasattr(model, "_functional"):
        if model._functional is None:
            raise NoCounterpart("it has not been built; begin it with keras.Input(shape)")
        return model._functional
    if not own_call or not hasattr(model, "_nodes_by_depth"):
        raise NoCounterpart("its call is Python code that cannot be read; rebuild it with keras.Model(inputs, outputs)")
    return model


def nodes(function: Any) -> list[Any]:
    """The calls of a Keras 3 graph in execution order, inputs left out."""
    by_depth = function._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


def file_version(path: str | Path) -> str:
    """The version of Keras that wrote a `.keras` or `.h5` file; "" where the file does not say it."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            texts = [archive.read(n) for n in ("metadata.json", "config.json") if n in archive.namelist()]
        return next((v for v in (json.loads(text).get("keras_version") for text in texts) if v), "")
    if Path(path).is_file() and Path(path).suffix in (".h5", ".hdf5"):
        return _h5_version(path)
    return ""


def _h5_version(path: str | Path) -> str:
    import h5py

    with h5py.File(path, "r") as file:
        version = file.attrs.get("keras_version", b"")
    return version.decode() if isinstance(version, bytes) else str(version)


def is_keras3_file(path: str | Path) -> bool:
    """Whether Keras 3 wrote the file."""
    return file_version(path).split(".")[0].isdigit() and int(file_version(path).split(".")[0]) >= 3
