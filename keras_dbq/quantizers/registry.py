"""Where quantizers announce themselves: saved models name a quantizer by its class, and find it here.

A new quantizer is a class with the decorator `announce`: one file in this package, or in any module of your own that is
imported before such a model is loaded.
"""

from typing import Any

from keras_dbq.compat import Quantizer, keras, register

_CLASSES: dict[str, Any] = {}


def announce(cls: Any) -> Any:
    """Class decorator: saved models find the quantizer by the class' name.

    Raises:
      ValueError: another quantizer has that name.
    """
    other = _CLASSES.get(cls.__name__, cls)
    # The same class again is a module that is reloaded.
    if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(
            f"announce: expected a quantizer's name that is not taken, got {cls.__name__!r}, which {other.__module__} "
            "has; give the class another name"
        )
    _CLASSES[cls.__name__] = register(cls)
    return cls


def announced() -> dict[str, Any]:
    """{class name: class} of all quantizers that there are."""
    return dict(_CLASSES)


def serialize(quantizer: Quantizer | None) -> dict[str, Any] | None:
    """What a saved config holds of a quantizer: {"class_name", "config"}, or None."""
    if quantizer is None:
        return None
    return {"class_name": type(quantizer).__name__, "config": quantizer.get_config()}


def deserialize(config: Any) -> Any:
    """The quantizer of what `serialize` gave; a quantizer and None pass through.

    Raises:
      ValueError: no class of that name is announced, or registered with Keras.
    """
    if config is None or isinstance(config, Quantizer):
        return config
    full_name = config["class_name"]
    cls = _CLASSES.get(full_name.split(">")[-1]) or keras.utils.get_registered_object(full_name)
    if cls is None:
        raise ValueError(
            f"quantizer: expected one of {', '.join(sorted(_CLASSES))}, got {full_name!r}; import the module that "
            "announces it before the model is loaded"
        )
    return cls.from_config(config["config"])
