"""Activations on an affine grid."""

from typing import Any

import numpy as np

from keras_dbq import _checks
from keras_dbq.compat import Quantizer, keras, register, tf
from keras_dbq.ops import activations as activation_ops
from keras_dbq.ops import thresholds as threshold_ops
from keras_dbq.quantizers.base import IntervalConstraint, Variables, adopt_inner_weights


@register
class ActivationQuantizer(Quantizer):
    """Activations of 4 to 8 bits on a range [low, high].

    The variables low and high hold the calibrated extremes. ranges="moving_average": they follow each batch's minimum
    and maximum in training. ranges="trained": they stay, and trained factors make the range from them
    (`threshold_ops`): symmetric T = factor * max(-low, high), else a shift and a width. `fixed` ranges (softmax,
    sigmoid) never move.

    Args:
      bits: 4 to 8; a `fixed` range has 8.
      unsigned: the tensor is never negative (after a ReLU): low stays 0 and is not measured.
      ema_decay: weight of the past in the moving average, in [0, 1); 1 keeps the calibrated range.
      ranges: "moving_average" or "trained".
      symmetric: zero point 0 (128 codes on each side), or a range that starts at 0 where unsigned.
      fixed: (low, high), or None.
      frozen: "ranges", or nothing (set by `keras_dbq.freeze`).
    """

    # While set, (variables, tensor) -> None: it sees the tensor, which passes through unchanged (calibration).
    observing: Any = None
    # While True the tensor passes through unchanged.
    bypass = False

    def __init__(
        self,
        bits: int = 8,
        unsigned: bool = False,
        ema_decay: float = 0.99,
        ranges: str = "moving_average",
        symmetric: bool = False,
        fixed: tuple[float, float] | None = None,
        frozen: tuple[str, ...] = (),
    ):
        self.bits = _checks.integer("activation bits", bits, 4, 8)
        self.unsigned = _checks.boolean("unsigned", unsigned)
        self.ema_decay = _checks.number("ema_decay", ema_decay, 0.0, 1.0)
        self.ranges = _checks.one_of("ranges", ranges, ("moving_average", "trained"))
        self.symmetric = _checks.boolean("symmetric", symmetric)
        self.fixed = None if fixed is None else (float(fixed[0]), float(fixed[1]))
        if self.fixed is not None:
            self.bits = 8
        self.frozen = tuple(frozen)

    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> Variables:
        adopt_inner_weights(layer)

        def add(suffix: str, value: float, trained: threshold_ops.Interval | None = None) -> tf.Variable:
            return layer.add_weight(
                name=f"{name}_{suffix}",
                shape=(),
                dtype=tf.float32,
                initializer=keras.initializers.Constant(value),
                constraint=None if trained is None else IntervalConstraint(*trained),
                trainable=trained is not None and "ranges" not in self.frozen,
                experimental_autocast=False,
                aggregation=tf.VariableAggregation.MEAN,
            )

        low, high = self.fixed or ((0.0 if self.unsigned else -6.0), 6.0)
        variables = {"low": add("low", low), "high": add("high", high)}
        if self.ranges == "trained" and self.fixed is None:
            if self.symmetric:
                variables["factor"] = add("factor", 1.0, threshold_ops.FACTOR)
            else:
                variables["width"] = add("width", 1.0, threshold_ops.WIDTH)
                if not self.unsigned:  # an unsigned range starts at zero, which needs a code
                    variables["shift"] = add("shift", 0.0, threshold_ops.SHIFT)
        return variables

    def range(self, variables: Variables, count: Any = 1.0) -> tuple[Any, Any]:
        """(low, high) of the range in use, float32 scalars.

        Args:
          count: numbers that the range bounds in one picture; scales the gradient of what is trained.
        """
        low, high = tf.convert_to_tensor(variables["low"]), tf.convert_to_tensor(variables["high"])
        if self.fixed is not None:
            return low, high
        share = tf.math.rsqrt(tf.maximum(tf.cast(count, tf.float32), 1.0) * (2**self.bits - 1))
        trained = {
            name: threshold_ops.scale_gradient(tf.convert_to_tensor(variables[name]), share)
            for name in ("factor", "width", "shift")
            if name in variables
        }
        if self.symmetric:
            largest = tf.maximum(-low, high)
            threshold = threshold_ops.symmetric_threshold(largest, trained["factor"]) if trained else largest
            return threshold_ops.symmetric_range(threshold, self.bits, self.unsigned)
        if trained:
            return threshold_ops.asymmetric_range(low, high, trained.get("shift", 0.0), trained["width"], self.unsigned)
        return low, high

    def apply_freeze(self, owner: keras.layers.Layer, variables: Variables) -> None:
        """Moves what is trained from the owner's trainable to its other weights, to where `build` puts it when frozen.

        tfmot's wrapper keeps its own lists; those that its weight quantizers remember follow.
        """
        remembered = [w.quantizer_lists() for _, w, _ in getattr(owner, "_weight_vars", []) if w.quantizer_lists()]
        for trainable, fixed in [(owner._trainable_weights, owner._non_trainable_weights), *remembered]:
            for name in ("factor", "width", "shift"):
                variable = variables.get(name)
                if variable is None or not any(v is variable for v in trainable):
                    continue
                trainable[:] = [v for v in trainable if v is not variable]
                before = {id(v) for v in variables.values()} & {id(v) for v in fixed}
                place = 1 + max(i for i, v in enumerate(fixed) if id(v) in before)
                fixed.insert(place, variable)
                variable._trainable = False

    def __call__(self, inputs: Any, training: Any, weights: Variables, **kwargs: Any) -> Any:
        if self.bypass:
            return inputs
        low, high = weights["low"], weights["high"]
        if self.observing is not None:
            self.observing(weights, inputs)
            return inputs
        follows = self.ranges == "moving_average" and self.fixed is None and "ranges" not in self.frozen
        if training and follows and self.ema_decay < 1:
            self._follow(inputs, low, high)
        x = tf.cast(inputs, tf.float32)
        low, high = self.range(weights, tf.size(x) / tf.maximum(tf.shape(x)[0], 1))
        if self.unsigned:
            y = activation_ops.fake_quant_unsigned(x, high, bits=self.bits)
        else:
            y = activation_ops.fake_quant(x, low, high, bits=self.bits)
        return tf.cast(y, inputs.dtype)

    def _extremes(self, inputs: Any) -> tuple[tf.Tensor | None, tf.Tensor]:
        """Batch minimum (None when unsigned) and maximum; the range always holds zero and is never empty."""
        inputs = tf.stop_gradient(tf.cast(inputs, tf.float32))
        high = tf.maximum(tf.reduce_max(inputs), 1e-5)
        return (None if self.unsigned else tf.minimum(tf.reduce_min(inputs), 0.0)), high

    def _follow(self, inputs: Any, low: Any, high: Any) -> None:
        batch_low, batch_high = self._extremes(inputs)
        high.assign_sub((1 - self.ema_decay) * (high - batch_high))
        if batch_low is not None:
            low.assign_sub((1 - self.ema_decay) * (low - batch_low))

    def calibrate(self, variables: Variables, low: float, high: float) -> None:
        """Sets the range, with what is trained at its start. low <= 0 < high; a fixed range stays."""
        if self.fixed is None:
            variables["low"].assign(low)
            variables["high"].assign(high)
            for name, start in (("factor", 1.0), ("width", 1.0), ("shift", 0.0)):
                if name in variables:
                    variables[name].assign(start)

    def bounds(self, low: float, high: float) -> tuple[float, float]:
        """(low, high) of the range in use right after `calibrate(low, high)`."""
        if not self.symmetric:
            return low, high
        return threshold_ops.symmetric_range(max(-low, high), self.bits, self.unsigned)

    def grid(self, variables: Variables) -> tuple[np.float32, int]:
        """Scale and int8 zero point of the current range."""
        low, high = self.range(variables)
        return activation_ops.nudged_grid(low.numpy(), high.numpy(), self.bits)

    def get_config(self) -> dict[str, Any]:
        return {
            "bits": self.bits,
            "unsigned": self.unsigned,
            "ema_decay": self.ema_decay,
            "ranges": self.ranges,
            "symmetric": self.symmetric,
            "fixed": None if self.fixed is None else list(self.fixed),
            "frozen": list(self.frozen),
        }
