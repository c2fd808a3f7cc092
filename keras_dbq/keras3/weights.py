"""Weights from a Keras 3 layer to its counterpart: by name where names tell, else by order; shapes are checked."""

from typing import Any

import numpy as np

from keras_dbq.compat import keras
from keras_dbq.keras3 import table
from keras_dbq.keras3.detect import function_of
from keras_dbq.keras3.missing import NoCounterpart, kind


def copy(old: Any, new: Any) -> None:
    """Copies the weights of a Keras 3 layer, and of the layers inside of it, into a built tf_keras layer.

    Raises NoCounterpart where numbers or shapes differ.
    """
    if isinstance(new, keras.Model):
        _copy_model(old, new)
    elif (inside := table.INSIDE.get(type(old).__name__)) and type(old).__name__ != "SpectralNormalization":
        for attribute in inside.values():
            _copy_inside(getattr(old, attribute), getattr(new, attribute))
    elif old.weights:
        _copy_flat(old, new)


def _copy_inside(old: Any, new: Any) -> None:
    several = isinstance(old, (list, tuple))
    for a, b in zip(old, new, strict=True) if several else ((old, new),):
        copy(a, b)


def _copy_model(old: Any, new: Any) -> None:
    """A model inside of a layer: its layers have the same names."""
    for layer in function_of(old).layers:
        if layer.weights:
            copy(layer, new.get_layer(layer.name))


def _copy_flat(old: Any, new: Any) -> None:
    values = [np.asarray(value) for value in old.get_weights()]
    order = _order([w.name for w in old.weights], [_last_name(w) for w in new.weights])
    shapes, wanted = [values[i].shape for i in order], [tuple(w.shape) for w in new.weights]
    if shapes != wanted:
        raise NoCounterpart(f"its weights have the shapes {shapes}, tf_keras' {kind(new)} has {wanted}")
    new.set_weights([values[i] for i in order])
    if isinstance(new, keras.layers.Normalization):
        new.finalize_state()  # what it computes with follows from its weights


def _last_name(weight: Any) -> str:
    return weight.name.rpartition("/")[2].partition(":")[0]


def _order(old: list[str], new: list[str]) -> list[int]:
    """Which of the old weights goes into each new one: the one of its name where names are unique and the same."""
    if len(set(old)) == len(old) and sorted(old) == sorted(new):
        return [old.index(name) for name in new]
    return list(range(len(old)))
