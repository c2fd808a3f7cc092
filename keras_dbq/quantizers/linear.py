"""Weights on a linear grid of 2 to 8 bits."""

import weakref
from typing import Any

import numpy as np

from keras_dbq import _checks
from keras_dbq.compat import keras, register, tf
from keras_dbq.ops import thresholds as threshold_ops
from keras_dbq.quantizers.base import (
    IntegerWeights,
    IntervalConstraint,
    Variables,
    WeightQuantizer,
    adopt_inner_weights,
)
from keras_dbq.wrapping.bias import BiasRounder, round_bias


@register
class LinearWeightQuantizer(WeightQuantizer):
    """Symmetric linear weights, n * scale with |n| <= 2**(bits-1) - 1 and scale = T / (2**(bits-1) - 1).

    T = max|w|, which follows the weights, times a trained factor in [0.5, 1] where `threshold` is "trained".

    Args:
      bits: 2 to 8.
      per_channel: one range per output channel, or one per tensor.
      depthwise: the kernel is (h, w, C, multiplier), its channels are the last two axes.
      threshold: "max", or "trained" (`threshold_ops`).
      round_bias: the layer adds its bias rounded to int32 steps of input scale times weight scale, as its file will.
      frozen: parts that do not train, of "weights" and "scales" (set by `keras_dbq.freeze`).
    """

    bias: BiasRounder | None = None

    def __init__(
        self,
        bits: int = 8,
        per_channel: bool = True,
        depthwise: bool = False,
        threshold: str = "max",
        round_bias: bool = False,
        frozen: tuple[str, ...] = (),
    ):
        self.bits = _checks.integer("bits", bits, 2, 8)
        self.per_channel = _checks.boolean("per_channel", per_channel)
        self.depthwise = _checks.boolean("depthwise", depthwise)
        self.threshold = _checks.one_of("threshold", threshold, ("max", "trained"))
        self.round_bias = _checks.boolean("round_bias", round_bias)
        self.frozen = tuple(frozen)

    @property
    def top(self) -> int:
        """The largest integer level."""
        return 2 ** (self.bits - 1) - 1

    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> Variables:
        self._wrapper = weakref.ref(layer)
        adopt_inner_weights(layer)
        self.bias = BiasRounder(layer) if self.round_bias else None
        if self.threshold == "max":
            return {}
        channels = self._channels(tensor_shape)
        factor = layer.add_weight(
            name=f"{name}_threshold_factor",
            shape=(channels,),
            dtype=tf.float32,
            initializer=keras.initializers.Constant(1.0),
            constraint=IntervalConstraint(*threshold_ops.FACTOR),
            trainable=True,
            experimental_autocast=False,
        )
        return {"threshold_factor": factor}

    def _threshold(self, columns: tf.Tensor, variables: Variables) -> tf.Tensor:
        """T of each channel, float32 [M]."""
        largest = tf.reduce_max(tf.abs(columns), 0)
        largest = tf.stop_gradient(tf.where(largest > 0, largest, 1.0))
        if self.threshold == "max":
            return largest
        count = tf.cast(tf.size(columns) // tf.size(largest), tf.float32)
        factor = threshold_ops.scale_gradient(
            tf.convert_to_tensor(variables["threshold_factor"]), tf.math.rsqrt(count * self.top)
        )
        return threshold_ops.symmetric_threshold(largest, factor)

    def __call__(self, inputs: Any, training: Any, weights: Variables, **kwargs: Any) -> Any:
        if self.bypass:
            self._give_bias(None)
            return inputs
        self._refreeze(inputs, weights)
        columns = tf.cast(self.columns(inputs), tf.float32)
        threshold = self._threshold(columns, weights)
        self._give_bias(threshold)
        quantized = threshold_ops.quantize_weights(columns, threshold, self.bits)
        return tf.cast(tf.reshape(quantized, tf.shape(inputs)), inputs.dtype)

    def _give_bias(self, threshold: Any) -> None:
        """The wrapped layer's bias for this call: rounded to the steps of its accumulator, or as it is."""
        wrapper = self._wrapper() if self._wrapper is not None else None
        if self.bias is None or self.bias.variable is None or wrapper is None:
            return
        scale = None if threshold is None else self.bias.input_scale(wrapper)
        if scale is None:
            self.bias.give(None)
            return
        bias = tf.convert_to_tensor(self.bias.variable)  # of the layer's compute dtype, float16 in mixed precision
        rounded = round_bias(tf.cast(bias, tf.float32), scale, threshold / self.top)
        self.bias.give(tf.cast(rounded, bias.dtype))

    def initialize(self, kernel: np.ndarray, variables: Variables, least_error: bool = False) -> float:
        """Thresholds at max|w|; returns the relative squared error ||w - w_q||^2 / ||w||^2.

        Args:
          kernel: float32, the layer's kernel.
          variables: what `build` made.
          least_error: trained thresholds start at the factor in [0.5, 1] of each channel whose squared error is least.
        """
        if variables:
            factor = variables["threshold_factor"]
            factor.assign(tf.ones_like(factor))
            if least_error:
                factor.assign(self._best_factors(kernel, variables))
        return self._reconstruction_error(kernel, variables)

    def _best_factors(self, kernel: np.ndarray, variables: Variables) -> tf.Tensor:
        """Of 51 factors from 1 down to 0.5, float32 [M]; the larger one where two are equally good."""
        columns = tf.constant(self.columns(np.asarray(kernel, np.float32)))
        largest = self._threshold(columns, variables)  # factors are 1
        best, least = tf.ones_like(largest), tf.fill(tf.shape(largest), np.float32(np.inf))
        for step in range(51):
            factor = tf.constant(1 - step / 100, tf.float32)
            error = threshold_ops.quantize_weights(columns, factor * largest, self.bits) - columns
            error = tf.reduce_sum(tf.square(error), 0)
            best, least = tf.where(error < least, factor, best), tf.minimum(error, least)
        return best

    def integer_weights(self, kernel: np.ndarray, variables: Variables) -> IntegerWeights:
        """The kernel as it will stand in the file."""
        columns = tf.constant(self.columns(np.asarray(kernel, np.float32)))
        scale = self._threshold(columns, variables) / self.top
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
            "threshold": self.threshold,
            "round_bias": self.round_bias,
            "frozen": list(self.frozen),
        }
