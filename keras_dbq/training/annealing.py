"""Annealed codes: weights of few levels train on a soft curve that grows as sharp as the steps between the levels.

source: Yang et al., Quantization Networks, CVPR 2019; DBQ's smooth forward. See docs/quantization.md (34).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

from keras_dbq.compat import keras, tf
from keras_dbq.wrapping import wrappers

# choice: sharpness at the start and at the end; one rises to the other geometrically. Measured, the same place.
_SHARPNESS = 8.0, 1000.0


def few_levels(
    layers: Iterable[keras.layers.Layer], variables: Iterable[tf.Variable]
) -> list[wrappers.QuantizedWeight]:
    """Quantized weights of these layers that have few levels and are among the variables: their codes train."""
    trained = {id(variable) for variable in variables}
    weights = [weight for layer in layers for weight in wrappers.quantized_weights(layer)]
    return [w for w in weights if id(w.variable) in trained and getattr(w.quantizer, "few_levels", False)]


class Annealing:
    """The soft curve of some weights, and how sharp it is."""

    def __init__(self, weights: list[wrappers.QuantizedWeight]):
        self._quantizers = [weight.quantizer for weight in weights]
        self._sharpness = tf.Variable(_SHARPNESS[0], trainable=False)

    def proceed(self, done: float) -> None:
        """Sets the sharpness that belongs to this share of the training, 0 to 1."""
        start, end = _SHARPNESS
        self._sharpness.assign(start * (end / start) ** done)

    def soft(self) -> AbstractContextManager[None]:
        """Training takes the curve meanwhile, inference the levels; when a graph is traced, as `quantizer_flags`."""
        return wrappers.softened(self._quantizers, self._sharpness)
