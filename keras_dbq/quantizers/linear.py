"""Weights on a linear grid of 2 to 8 bits."""

from typing import Any

import numpy as np

from keras_dbq import _checks
from keras_dbq.compat import keras, tf
from keras_dbq.ops import thresholds as threshold_ops
from keras_dbq.ops.weight_levels import LinearLevels
from keras_dbq.quantizers.base import (
    INSIDE,
    IntegerWeights,
    IntervalConstraint,
    Variables,
    WeightQuantizer,
    add_variable,
)
from keras_dbq.quantizers.registry import announce

# choice: up to so many bits the choice between two levels is worth training; with 8 both are near.
_FEW_BITS = 6


@announce
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
        self.frozen = self._frozen(frozen)
        # Both start a trained threshold; max|w| itself needs no fitting.
        self.fits = ("max", "least_error") if threshold == "trained" else ("max",)

    @property
    def top(self) -> int:
        """The largest integer level."""
        return 2 ** (self.bits - 1) - 1

    def describe(self) -> str:
        return f"{self.bits} bit"

    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> Variables:
        if self.threshold == "max":
            return {}
        start, constraint = np.ones(self.channels(tensor_shape)), IntervalConstraint(*threshold_ops.FACTOR)
        return {"threshold_factor": add_variable(layer, f"{name}_threshold_factor", start, True, constraint)}

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

    def quantize(self, columns: tf.Tensor, training: Any, variables: Variables) -> tf.Tensor:
        return threshold_ops.quantize_weights(columns, self._threshold(columns, variables), self.bits)

    def soft(self, columns: tf.Tensor, variables: Variables, sharpness: Any) -> tf.Tensor:
        unit = self._threshold(columns, variables) / self.top
        place = tf.clip_by_value(columns / unit, -self.top, self.top)
        below = tf.floor(place)
        # The sigmoids of the gap that the weight lies in and of the two beside it; the others are 0 or 1 there.
        gaps = (tf.sigmoid(sharpness * (place - below - middle)) for middle in (-0.5, 0.5, 1.5))
        return unit * (below - 1 + tf.add_n(list(gaps)))

    def unit(self, kernel: Any, variables: Variables) -> tf.Tensor:
        """Real value of integer level 1, float32 [M] or [1]."""
        return self._threshold(tf.cast(self.columns(kernel), tf.float32), variables) / self.top

    @property
    def levels(self) -> LinearLevels:
        return LinearLevels(self.top)

    @property
    def few_levels(self) -> bool:
        return self.bits <= _FEW_BITS

    def neighbours(self, kernel: np.ndarray, variables: Variables) -> tuple[np.ndarray, np.ndarray]:
        columns, unit = np.asarray(self.columns(kernel), np.float64), self._float64_unit(kernel, variables)
        below = np.floor(columns / unit)
        # The largest weight of a channel is what its levels are made of, so it has no choice.
        fixed = (np.abs(columns) >= unit * self.top) | (np.abs(columns) >= np.abs(columns).max(0))
        nearest = np.rint(columns / unit)
        low, high = (np.where(fixed, nearest, n).clip(-self.top, self.top) for n in (below, below + 1))
        return low * unit, high * unit

    def settle(self, kernel: tf.Variable, variables: Variables, wanted: np.ndarray) -> None:
        columns = np.asarray(self.columns(kernel.numpy()), np.float64)
        unit = self._float64_unit(kernel.numpy(), variables)
        n = np.clip(np.rint(wanted / unit), -self.top, self.top)
        low = np.where(n == -self.top, -np.inf, (n - 0.5 + 0.5 * INSIDE) * unit)
        high = np.where(n == self.top, np.inf, (n + 0.5 - 0.5 * INSIDE) * unit)
        kernel.assign(np.clip(columns, low, high).astype(np.float32).reshape(kernel.shape))

    def assign(self, kernel: tf.Variable, variables: Variables, codes: np.ndarray, scales: np.ndarray) -> None:
        # The step follows from the largest weight, so that one is exactly at the largest level.
        columns = np.asarray(self.columns(kernel.numpy()), np.float64)
        ends, top = np.abs(codes[0]) == self.top, self.top * scales[0]
        columns = np.clip(columns, -top, top)
        largest = np.where(ends, np.abs(columns), -1).argmax(0), np.arange(len(top))
        used = ends.any(0)
        columns[largest] = np.where(used, top * np.sign(codes[0][largest]), columns[largest])
        kernel.assign(np.where(used, columns, 0).astype(np.float32).reshape(kernel.shape))
        if self.threshold == "trained":
            variables["threshold_factor"].assign(tf.ones_like(variables["threshold_factor"]))
        self.settle(kernel, variables, codes[0] * scales[0])

    def _float64_unit(self, kernel: np.ndarray, variables: Variables) -> np.ndarray:
        return np.asarray(self.unit(kernel, variables).numpy(), np.float64)

    def fit(self, kernel: np.ndarray, variables: Variables, way: str) -> None:
        """Trained thresholds start at max|w| ("max"), or at the factor in [0.5, 1] of each channel whose squared error
        is least ("least_error").
        """
        if self.threshold == "trained":
            factor = variables["threshold_factor"]
            factor.assign(tf.ones_like(factor))
            if way == "least_error":
                factor.assign(self._best_factors(kernel, variables))

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
        """The kernel as it will stand in the file: n, and T over the largest level."""
        columns = tf.constant(self.columns(np.asarray(kernel, np.float32)))
        scale = self._threshold(columns, variables) / self.top
        values = tf.clip_by_value(tf.round(columns / scale), -self.top, self.top)
        return IntegerWeights(
            values.numpy().reshape(kernel.shape).astype(np.int8),
            np.broadcast_to(scale.numpy(), (self.output_channels(kernel.shape),)).copy(),
            0,
            self.bits,
        )
