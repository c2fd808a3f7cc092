"""Activation functions of Keras 3 in tf_keras: by name where both have it, else in operators."""

import itertools
from collections.abc import Callable
from typing import Any

from keras_dbq.compat import TFOpLambda, keras, tf
from keras_dbq.keras3 import table
from keras_dbq.keras3.missing import NoCounterpart

L = keras.layers
Call = Callable[..., Any]


def apply(function: Call, name: str, *args: Any, **kwargs: Any) -> Any:
    """A TensorFlow function called on Keras tensors, as a layer of this name."""
    return TFOpLambda(function, name=name)(*args, **kwargs)


def is_tensor(value: Any) -> bool:
    """Whether an argument is a Keras tensor, and not a constant."""
    return hasattr(value, "_keras_history")


def hard_sigmoid(x: Any, name: str) -> Any:
    """relu6(x + 3) / 6.   source: keras.ops.hard_sigmoid"""
    shifted = apply(tf.add, f"{name}_add", x, 3.0)
    return apply(tf.multiply, name, L.ReLU(6.0, name=f"{name}_relu6")(shifted), 1 / 6)


def hard_silu(x: Any, name: str) -> Any:
    """x relu6(x + 3) / 6.   source: keras.ops.hard_silu"""
    return L.Multiply(name=name)([x, hard_sigmoid(x, f"{name}_hard_sigmoid")])


def hard_tanh(x: Any, name: str) -> Any:
    """min(max(x, -1), 1).   source: keras.ops.hard_tanh"""
    return apply(tf.clip_by_value, name, x, -1.0, 1.0)


def log_sigmoid(x: Any, name: str) -> Any:
    """log(1 / (1 + exp(-x))).   source: keras.ops.log_sigmoid"""
    return apply(tf.math.log_sigmoid, name, x)


def tanh_shrink(x: Any, name: str) -> Any:
    """x - tanh(x).   source: keras.ops.tanh_shrink"""
    return L.Subtract(name=name)([x, L.Activation("tanh", name=f"{name}_tanh")(x)])


# Functions of keras.activations that tf_keras lacks, or has with other values: (tensor, name) -> tensor.
IN_OPERATORS: dict[str, Call] = {f.__name__: f for f in (hard_sigmoid, hard_silu, hard_tanh, log_sigmoid, tanh_shrink)}


def name_of(function: Any) -> str:
    """The name of one of keras.activations' functions; "" for any other callable (keras.ops.gelu is another gelu)."""
    if function is None:
        return "linear"
    inside = str(getattr(function, "__module__", "")).startswith("keras.src.activations.")
    return str(getattr(function, "__name__", "")) if inside else ""


def same_name(function: Any, option: str) -> str:
    """The tf_keras name of an activation that cannot be split off (a recurrent layer's)."""
    name = name_of(function)
    if name not in table.ACTIVATIONS:
        raise NoCounterpart(f"{option} is {name or function!r}; use one of {', '.join(sorted(table.ACTIVATIONS))}")
    return name


def call(function: Any, name: str, convert: Call) -> Call:
    """tensor -> tensor for an activation that tf_keras does not have under the same name.

    Args:
      function: a function, or a Keras 3 layer that is used as one.
      name: of the layer that computes it.
      convert: Keras 3 layer -> what is called for it.
    """
    known = name_of(function)
    if known in IN_OPERATORS:
        names = (name if k == 0 else f"{name}_{k}" for k in itertools.count())  # one for every call of the layer
        return lambda x: IN_OPERATORS[known](x, next(names))
    if known:
        raise NoCounterpart(
            f"tf_keras has no activation {known}; use one of "
            f"{', '.join(sorted((*table.ACTIVATIONS, *IN_OPERATORS)))}, or write it with keras.ops on tensors"
        )
    if hasattr(function, "weights"):  # a layer
        return _without_weights(convert(function))
    return python_function(function, name)


def _without_weights(layer: Any) -> Call:
    def call(x: Any) -> Any:
        result = layer(x)
        if getattr(layer, "weights", ()):
            raise NoCounterpart("its activation has weights, which Keras 3 does not save; call it as a layer behind it")
        return result

    return call


def python_function(function: Any, name: str, **options: Any) -> keras.layers.Layer:
    """A Lambda for a user's own function; with Keras 3 on TensorFlow it takes TensorFlow's tensors, as here."""
    import keras as keras_3  # imported by whoever made the model

    if keras_3.backend.backend() != "tensorflow":
        raise NoCounterpart(
            f"a Python function for the backend {keras_3.backend.backend()}; write it with keras.ops on tensors, or "
            "set KERAS_BACKEND=tensorflow"
        )
    return L.Lambda(function, name=name, **options)
