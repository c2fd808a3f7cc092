"""Rounding the biases of a quantized Keras model to the integers of its file.

The file's bias is n * input_scale * weight_scale with an integer n. Keras' own bias is off that grid by up to half a
step, which flips about one output code in 3,000 of a layer; ten layers on, the flips have multiplied (measured on
MobileNetV1 0.25 right after `quantize_model`: 68 % of the output codes differ by a few steps; with rounded biases 7 %).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_dbq.compat import keras
from keras_dbq.export.inference import fold_of
from keras_dbq.wrapping import wrappers
from keras_dbq.wrapping.naming import folds, plain_name


def round_biases(q_model: keras.Model, biases: dict[str, list[np.ndarray]]) -> float:
    """Moves each bias of the model onto its file's grid, by at most half an integer step; repeatable.

    Args:
      q_model: the exported model.
      biases: {layer name: real values of the file's bias, float64 [M], for each call}, from `convert`.

    Returns:
      The largest change of a bias, in real units. A layer without bias or batch norm offset is left alone, and so is
      one that is called several times: its one bias cannot be on the grids of all its inputs.
    """
    folded, changes = folds(q_model), [0.0]
    for layer in q_model.layers:
        targets = biases.get(plain_name(layer), [])
        if len(targets) == 1 and wrappers.quantized_weights(layer):
            changes.append(_move(layer, folded.get(id(layer)), targets[0]))
    return max(changes)


def _move(layer: keras.layers.Layer, batch_norm: keras.layers.Layer | None, target: np.ndarray) -> float:
    """Gives a layer, its batch norm folded, the bias `target`; returns the largest change."""
    factor, bias = fold_of(layer, batch_norm)
    variable, step = _adjustable(layer, batch_norm, factor, target - bias)
    if variable is None:
        return 0.0
    variable.assign((np.asarray(variable, np.float64) + step).astype(np.float32))
    return float(np.abs(target - bias).max(initial=0))


def _adjustable(
    layer: keras.layers.Layer, batch_norm: keras.layers.Layer | None, factor: np.ndarray, change: np.ndarray
) -> tuple[Any, np.ndarray]:
    """(the variable that moves the bias, its own change); None where there is no such variable."""
    if batch_norm is None:
        return wrappers.bias(layer), change
    norm = wrappers.inner(batch_norm)
    if norm.center:
        return norm.beta, change
    # bias = factor * (b - mean): a dead channel (factor 0) cannot be moved.
    return norm.moving_mean, -change / np.where(factor == 0, np.inf, factor)
