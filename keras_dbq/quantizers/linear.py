"""Weights on a linear grid of 2 to 8 bits."""

import weakref
from typing import Any

import numpy as np

from keras_dbq import _checks
from keras_dbq.compat import keras, register, tf
from keras_dbq.quantizers.base import IntegerWeights, Variables, WeightQuantizer, adopt_inner_weights


def _round_to_grid(w: tf.Tensor, scale: tf.Tensor, top: int) -> tf.Tensor:
    """n * scale with n = clip(round(w / scale), -top, top); dy/dw = 1 (the range always holds w)."""

    @tf.custom_gradient
    def quantize(w: Any) -> Any:
        return tf.clip_by_value(tf.round(w / scale), -top, top) * scale, lambda dy: dy

    return quantize(w)


@register
class LinearWeightQuantizer(WeightQuantizer):
    """Symmetric linear weights, n * scale with |n| <= 2**(bits-1) - 1 and scale = max|w| / (2**(bits-1) - 1).

    The range follows the weights; trained thresholds will multiply it by a factor per channel.

    Args:
      bits: 2 to 8.
      per_channel: one range per output channel, or one per tensor.
      depthwise: the kernel is (h, w, C, multiplier), its channels are the last two axes.
      frozen: "weights", or nothing (set by `keras_dbq.freeze`).
    """

    def __init__(self, bits: int = 8, per_channel: bool = True, depthwise: bool = False, frozen: tuple[str, ...] = ()):
        self.bits = _checks.integer("bits", bits, 2, 8)
        self.per_channel = _checks.boolean("per_channel", per_channel)
        self.depthwise = _checks.boolean("depthwise", depthwise)
        self.frozen = tuple(frozen)

    @property
    def top(self) -> int:
        """The largest integer level."""
        return 2 ** (self.bits - 1) - 1

    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> Variables:
        self._wrapper = weakref.ref(layer)
        adopt_inner_weights(layer)
        return {}

    def _scale(self, columns: tf.Tensor) -> tf.Tensor:
        largest = tf.reduce_max(tf.abs(columns), 0)
        return tf.stop_gradient(tf.where(largest > 0, largest, 1.0) / self.top)

    def __call__(self, inputs: Any, training: Any, weights: Variables, **kwargs: Any) -> Any:
        if self.bypass:
            return inputs
        self._refreeze(inputs, weights)
        columns = tf.cast(self.columns(inputs), tf.float32)
        quantized = _round_to_grid(columns, self._scale(columns), self.top)
        return tf.cast(tf.reshape(quantized, tf.shape(inputs)), inputs.dtype)

    def initialize(self, kernel: np.ndarray, variables: Variables) -> float:
        """Nothing to fit; returns the relative squared error ||w - w_q||^2 / ||w||^2."""
        return self._reconstruction_error(kernel, variables)

    def integer_weights(self, kernel: np.ndarray, variables: Variables) -> IntegerWeights:
        """The kernel as it will stand in the file."""
        columns = tf.constant(self.columns(np.asarray(kernel, np.float32)))
        scale = self._scale(columns)
        values = tf.clip_by_value(tf.round(columns / scale), -self.top, self.top)
        channels = self._output_channels(kernel.shape)
        return IntegerWeights(
            values.numpy().reshape(kernel.shape).astype(np.int8),
            np.broadcast_to(scale.numpy(), (channels,)).copy(),
            0,
            self.bits,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "bits": self.bits,
            "per_channel": self.per_channel,
            "depthwise": self.depthwise,
            "frozen": list(self.frozen),
        }
