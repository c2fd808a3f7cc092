"""A network of a few numbers that has what wrapping has to deal with; quantized in about a second."""

from typing import Any

import numpy as np

import keras_dbq
from keras_dbq.compat import keras

L = keras.layers
SHAPE = (6, 6, 3)


def pictures(count: int = 16, seed: int = 0) -> np.ndarray:
    """float32 [count, 6, 6, 3]."""
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32)


def network() -> Any:
    """A bias, a batch norm whose output is quantized in its own wrapper, an addition, pooling, a dense layer."""
    inputs = keras.Input(SHAPE, name="image")
    x = L.Conv2D(4, 3, activation="relu", name="stem")(inputs)
    y = L.BatchNormalization(name="norm")(L.Conv2D(4, 1, use_bias=False, name="middle")(x))
    x = L.ReLU(name="relu")(L.Add(name="add")([x, y]))
    return keras.Model(inputs, L.Dense(3, name="head")(L.GlobalAveragePooling2D(name="pool")(x)), name="tiny")


def quantized(scheme: Any = None, **options: Any) -> Any:
    """The network quantized by a scheme, or by a DBQScheme with these options."""
    keras.utils.set_random_seed(0)
    return keras_dbq.quantize_model(network(), scheme or keras_dbq.DBQScheme(**options), pictures())


def fit(q_model: Any, rate: float = 0.05) -> None:
    """Two steps of SGD."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    q_model.compile(keras.optimizers.SGD(rate), loss, run_eagerly=True)  # tracing would take most of the time
    q_model.fit(pictures(), np.arange(16) % 3, batch_size=8, shuffle=False, verbose=0)


def short_names(variables: Any) -> list[str]:
    """Names without the layers', which differ between a quantized and a loaded model."""
    return [v.name.rpartition("/")[2] for v in variables]
