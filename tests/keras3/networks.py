"""Keras 3 models for the tests, with weights that matter, and the comparison of both models' answers."""

from collections.abc import Iterator
from typing import Any

import keras as keras_3
import numpy as np

import keras_dbq

L, K = keras_3.layers, keras_3.ops


def lively(model: Any, seed: int = 0) -> Any:
    """Gives every weight of a Keras 3 model a random value; positive where a variance or a count is meant."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if not weight.dtype.startswith(("float", "bfloat")):
            continue
        positive = "variance" in weight.name
        value = rng.uniform(0.3, 2, weight.shape) if positive else rng.normal(0, 0.4, weight.shape)
        weight.assign(value.astype("float32"))
    for layer in model._flatten_layers():
        if type(layer).__name__ == "Normalization":
            layer.finalize_state()
    return model


def of_layer(layer: Any, *shapes: tuple[int, ...], dtype: str = "float32") -> Any:
    """A model of one layer, called on one input or on a list of several."""
    inputs = [keras_3.Input(shape, dtype=dtype) for shape in shapes]
    given = inputs if len(inputs) > 1 else inputs[0]
    return lively(keras_3.Model(given, layer(given)))


def answers(model: Any, inputs: Any) -> list[np.ndarray]:
    """The flat outputs of a model of either Keras, sorted by key where they are a dict."""
    return list(_flat(model(inputs, training=False)))


def _flat(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, dict):
        value = [value[key] for key in sorted(value)]
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _flat(part)
    else:
        yield np.asarray(value, np.float64)


def check(model: Any, inputs: Any = None) -> Any:
    """Converts, compares the answers once more, without the package's own comparison; the tf_keras model."""
    new = keras_dbq.from_keras3(model)
    if inputs is None:
        rng = np.random.default_rng(7)
        arrays = [rng.normal(size=(3, *t.shape[1:])).astype("float32") for t in model.inputs]
        inputs = arrays if len(arrays) > 1 else arrays[0]
    for a, b in zip(answers(model, inputs), answers(new, inputs), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5 * max(1, np.abs(a).max()))
    assert new.name == model.name
    return new
