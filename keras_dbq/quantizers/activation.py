"""Activations on an affine grid."""

from typing import Any

import numpy as np

from keras_dbq import _checks, activation_ops
from keras_dbq.compat import Quantizer, keras, register, tf
from keras_dbq.quantizers.base import Variables, adopt_inner_weights


@register
class ActivationQuantizer(Quantizer):
    """8-bit activations on the range [low, high], calibrated, then moved along in training.

    low and high are the exponential moving averages of each batch's minimum and maximum (training=True only);
    `fixed` ranges (softmax, sigmoid) never move.

    Args:
      bits: 8.
      unsigned: the tensor is never negative (after a ReLU): low stays 0 and is not measured.
      ema_decay: weight of the past in the moving average, in [0, 1); 1 keeps the calibrated range.
      fixed: (low, high), or None.
      frozen: "ranges", or nothing (set by `keras_dbq.freeze`).
    """

    # While set, the tensor passes through unchanged and its range widens to what it sees (calibration).
    observing = False
    # While True the tensor passes through unchanged.
    bypass = False

    def __init__(
        self,
        bits: int = 8,
        unsigned: bool = False,
        ema_decay: float = 0.99,
        fixed: tuple[float, float] | None = None,
        frozen: tuple[str, ...] = (),
    ):
        self.bits = _checks.integer("activation bits", bits, 8, 8)
        self.unsigned = _checks.boolean("unsigned", unsigned)
        self.ema_decay = _checks.number("ema_decay", ema_decay, 0.0, 1.0)
        self.fixed = None if fixed is None else (float(fixed[0]), float(fixed[1]))
        self.frozen = tuple(frozen)

    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> Variables:
        adopt_inner_weights(layer)

        def add(suffix: str, value: float) -> tf.Variable:
            return layer.add_weight(
                name=f"{name}_{suffix}",
                shape=(),
                dtype=tf.float32,
                initializer=keras.initializers.Constant(value),
                trainable=False,
                experimental_autocast=False,
                aggregation=tf.VariableAggregation.MEAN,
            )

        low, high = self.fixed or ((0.0 if self.unsigned else -6.0), 6.0)
        return {"low": add("low", low), "high": add("high", high)}

    def __call__(self, inputs: Any, training: Any, weights: Variables, **kwargs: Any) -> Any:
        if self.bypass:
            return inputs
        low, high = weights["low"], weights["high"]
        if self.observing:
            self._observe(inputs, low, high)
            return inputs
        if training and self.fixed is None and "ranges" not in self.frozen and self.ema_decay < 1:
            self._follow(inputs, low, high)
        x = tf.cast(inputs, tf.float32)
        if self.unsigned:
            y = activation_ops.fake_quant_unsigned(x, tf.convert_to_tensor(high), bits=self.bits)
        else:
            y = activation_ops.fake_quant(x, tf.convert_to_tensor(low), tf.convert_to_tensor(high), bits=self.bits)
        return tf.cast(y, inputs.dtype)

    def _extremes(self, inputs: Any) -> tuple[tf.Tensor | None, tf.Tensor]:
        """Batch minimum (None when unsigned) and maximum; the range always holds zero and is never empty."""
        inputs = tf.stop_gradient(tf.cast(inputs, tf.float32))
        high = tf.maximum(tf.reduce_max(inputs), 1e-5)
        return (None if self.unsigned else tf.minimum(tf.reduce_min(inputs), 0.0)), high

    def _observe(self, inputs: Any, low: Any, high: Any) -> None:
        if self.fixed is not None:
            return
        batch_low, batch_high = self._extremes(inputs)
        high.assign(tf.maximum(high, batch_high))
        if batch_low is not None:
            low.assign(tf.minimum(low, batch_low))

    def _follow(self, inputs: Any, low: Any, high: Any) -> None:
        batch_low, batch_high = self._extremes(inputs)
        high.assign_sub((1 - self.ema_decay) * (high - batch_high))
        if batch_low is not None:
            low.assign_sub((1 - self.ema_decay) * (low - batch_low))

    def reset(self, variables: Variables) -> None:
        """Empties the range before calibration."""
        if self.fixed is None:
            variables["low"].assign(0.0)
            variables["high"].assign(1e-5)

    def grid(self, variables: Variables) -> tuple[np.float32, int]:
        """Scale and int8 zero point of the current range."""
        return activation_ops.nudged_grid(variables["low"].numpy(), variables["high"].numpy(), self.bits)

    def get_config(self) -> dict[str, Any]:
        return {
            "bits": self.bits,
            "unsigned": self.unsigned,
            "ema_decay": self.ema_decay,
            "fixed": None if self.fixed is None else list(self.fixed),
            "frozen": list(self.frozen),
        }
