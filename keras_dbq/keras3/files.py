"""Models from objects and from files, of Keras 3 or of tf_keras: what the functions for users take."""

import importlib
from pathlib import Path
from typing import Any

from keras_dbq.compat import keras
from keras_dbq.keras3.convert import TOLERANCE, convert
from keras_dbq.keras3.detect import file_version, is_keras3, is_keras3_file
from keras_dbq.keras3.missing import first_line


def from_keras3(model: Any, tolerance: float = TOLERANCE) -> keras.Model:
    """A tf_keras model with the layers, names and weights of a Keras 3 model, compared with it on random input.

    derived: for every tensor that the network computes, on numbers of the normal distribution and on numbers from 0 to
    255, max|a - b| / max(max|a|, 0.001) <= tolerance, in float32 whatever the layers' policies are. Each layer is
    compared on what Keras 3 computed before it.

    Operators on tensors (`keras.ops`) become layers, or TensorFlow operators of the same name; an activation that
    tf_keras lacks becomes a layer `<layer>_<activation>`. Nested models, shared layers, dicts and lists of inputs and
    outputs stay. Not compiled: losses and optimizers are not converted.

    Args:
      model: Keras 3 Functional or Sequential model, or the path of its `.keras` or `.h5` file.
      tolerance: largest error, 0 to 1.

    Raises:
      TypeError: something else than a Keras 3 model.
      ValueError: layers, options or operations without a counterpart in tf_keras, all of them in one line; a subclassed
        or unbuilt model; a file that cannot be read; an error above the tolerance.
    """
    if isinstance(model, (str, Path)):
        if not is_keras3_file(_existing(model)):
            raise ValueError(
                f"from_keras3: {model}: expected a file that Keras 3 wrote, got one of Keras "
                f"{file_version(model) or '(unknown)'}; load it with tf_keras.models.load_model"
            )
        model = _load_keras3(model)
    return convert(model, tolerance)


def as_tf_keras(model: Any) -> Any:
    """A Keras 3 model converted, a file loaded; anything else as it is."""
    if isinstance(model, (str, Path)):
        return load_model(model)
    return convert(model) if is_keras3(model) else model


def load_model(path: str | Path) -> keras.Model:
    """A tf_keras model from a file or SavedModel folder of tf_keras, or from a file of Keras 3; not compiled."""
    if is_keras3_file(_existing(path)):
        return convert(_load_keras3(path))
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # h5py's do not say which file
        raise ValueError(
            f"{path}: expected a whole Keras model (.keras, .h5, SavedModel folder), got one that tf_keras cannot load "
            f"({first_line(error)}); save or copy it again"
        ) from error


def _existing(path: str | Path) -> str | Path:
    if not Path(path).exists():
        raise ValueError(f"{path}: expected a Keras model file, got nothing; check the path")
    return path


def _load_keras3(path: str | Path) -> Any:
    keras_3 = _keras3(path)
    try:
        return keras_3.models.load_model(path, compile=False)
    except Exception as error:  # Keras' own are many lines long
        why, _, _ = first_line(error).partition(" Full object config")
        advice = "; rebuild a subclassed model with keras.Model(inputs, outputs)" if "locate class" in why else ""
        raise ValueError(f"{path}: Keras {keras_3.__version__} cannot load it ({why}){advice}") from error


def _keras3(path: str | Path) -> Any:
    """The package; what it misses may be itself, or the backend that KERAS_BACKEND or its own config names."""
    try:
        return importlib.import_module("keras")
    except ModuleNotFoundError as error:
        if error.name == "keras":
            raise ValueError(f"{path}: a file of Keras 3, which is not installed; pip install keras") from None
        reason = first_line(error)
    except Exception as error:  # Keras' own, of a backend that it does not know
        reason = first_line(error)
    raise ValueError(f"{path}: a file of Keras 3, which cannot start ({reason}); set KERAS_BACKEND=tensorflow")
