"""Blocks that the networks share: plain Keras layers under given names."""

from __future__ import annotations

from typing import Any

from keras_dbq.compat import keras

_LIMITS = {"relu": None, "relu6": 6.0}


def relu(x: Any, name: str, activation: str = "relu") -> Any:
    """ReLU or ReLU6 as a layer.

    Raises:
      ValueError: an unknown activation.
    """
    if activation not in _LIMITS:
        raise ValueError(f"activation: expected 'relu' or 'relu6', got {activation!r}; choose one of the two")
    return keras.layers.ReLU(max_value=_LIMITS[activation], name=name)(x)


def norm(x: Any, name: str, epsilon: float, momentum: float) -> Any:
    """Batch norm over the last axis."""
    return keras.layers.BatchNormalization(epsilon=epsilon, momentum=momentum, name=name)(x)


def classifier(inputs: Any, x: Any, classes: int, name: str, model_name: str) -> Any:
    """The model from `inputs` to logits [N, classes]: global average pooling of x (`pool`), then a dense layer."""
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(classes, name=name)(x), name=model_name)
