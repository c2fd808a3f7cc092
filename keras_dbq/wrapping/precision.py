"""A quantized model of mixed precision as one that computes in float32: what its file computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from keras_dbq.compat import keras
from keras_dbq.wrapping import lookup
from keras_dbq.wrapping.serialization import custom_objects


def in_float32(model: keras.Model) -> keras.Model:
    """The model itself where it computes in float32, else a copy that does, with the same weights.

    derived: a bfloat16 number has 8 bits of precision, so in mixed precision a layer's answer is off by several of the
    255 steps of its grid. The variables are float32 in any case, and they are what is exported.
    """
    if all(layer.compute_dtype in ("float32", None) for layer in lookup.all_layers(model)):
        return model
    with _policy("float32"), keras.utils.custom_object_scope(custom_objects()):
        copy = type(model).from_config(_with_float32(model.get_config()))
    for old, new in zip(model.layers, copy.layers, strict=True):
        new.set_weights(old.get_weights())
    return copy


def _with_float32(config: Any) -> Any:
    """A config with every dtype or policy replaced."""
    if isinstance(config, dict):
        return {key: "float32" if key == "dtype" else _with_float32(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_with_float32(value) for value in config)
    return config


@contextmanager
def _policy(name: str) -> Iterator[None]:
    """Keras' global dtype policy for a while."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)
