"""Activations on an affine grid."""

from typing import Any

import numpy as np

from keras_dbq import _checks
from keras_dbq.compat import keras, tf
from keras_dbq.ops import activations as activation_ops
from keras_dbq.ops import thresholds as threshold_ops
from keras_dbq.quantizers import ranges as policies
from keras_dbq.quantizers.base import ConfiguredQuantizer, IntervalConstraint, Variables, add_variable
from keras_dbq.quantizers.registry import announce

_DECAY = 0.99


@announce
class ActivationQuantizer(ConfiguredQuantizer):
    """Activations of 4 to 8 bits on a range [low, high].

    The variables low and high hold the calibrated extremes. ranges="moving_average": they follow each batch's minimum
    and maximum in training, and the gradient of what lies outside passes. ranges="trained": they stay, and trained
    factors make the range from them (`threshold_ops`): symmetric T = factor * max(-low, high), else a shift and a
    width. `fixed` ranges (softmax, sigmoid) never move. Each is a class of `quantizers.ranges`.

    Args:
      bits: 4 to 8.
      unsigned: the tensor is never negative (after a ReLU): low stays 0 and is not measured.
      ema_decay: weight of the past in the moving average, in [0, 1]; 1 keeps the calibrated range. Of
        ranges="moving_average" only.
      ranges: "moving_average" or "trained".
      symmetric: zero point 0 (128 codes on each side), or a range that starts at 0 where unsigned.
      fixed: (low, high), or None. A fixed range has 8 bits and takes none of the options above.
      frozen: "ranges", or nothing (set by `keras_dbq.freeze`).

    Raises:
      ValueError: a value outside its range, or an option that would change nothing.
    """

    parts = ("ranges",)
    # While set, (variables, tensor) -> None: it sees the tensor, which passes through unchanged (calibration).
    observing: Any = None

    def __init__(
        self,
        bits: int = 8,
        unsigned: bool = False,
        ema_decay: float = _DECAY,
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
        self.frozen = self._frozen(frozen)
        if self.fixed is not None and (bits, unsigned, ema_decay, ranges, symmetric) != _PLAIN:
            raise ValueError(f"fixed: expected no other option beside a fixed range, got {self.get_config()}")
        if self.ranges == "trained" and ema_decay != _DECAY:
            raise ValueError(f"ema_decay: expected its default, as ranges='trained' keep the extremes, got {ema_decay}")
        self._range = self._policy()

    def _policy(self) -> policies.MovingRange:
        if self.fixed is not None:
            return policies.FixedRange(self.bits, *self.fixed)
        if self.ranges == "trained":
            trained = policies.TrainedSymmetricRange if self.symmetric else policies.TrainedRange
            return trained(self.bits, self.unsigned)
        moving = policies.SymmetricRange if self.symmetric else policies.MovingRange
        return moving(self.bits, self.unsigned, self.ema_decay)

    def describe(self) -> str:
        return f"{self.bits} bit"

    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> Variables:
        def add(suffix: str, start: float, interval: threshold_ops.Interval | None) -> tf.Variable:
            constraint = None if interval is None else IntervalConstraint(*interval)
            return add_variable(layer, f"{name}_{suffix}", start, interval is not None, constraint)

        return self._range.build(add)

    def range(self, variables: Variables, count: Any = 1.0) -> tuple[Any, Any]:
        """(low, high) of the range in use, float32 scalars.

        Args:
          count: numbers that the range bounds in one picture; scales the gradient of what is trained.
        """
        return self._range.range(variables, count)

    def __call__(self, inputs: Any, training: Any, weights: Variables, **kwargs: Any) -> Any:
        if self.bypass:
            return inputs
        if self.observing is not None:
            self.observing(weights, inputs)
            return inputs
        follows = training and self._range.moves and "ranges" not in self.frozen
        if follows:
            self._range.follow(weights, inputs)
        x = tf.cast(inputs, tf.float32)
        low, high = self.range(weights, tf.size(x) / tf.maximum(tf.shape(x)[0], 1))
        if self.unsigned:
            y = activation_ops.fake_quant_unsigned(x, high, bits=self.bits)
        else:
            y = activation_ops.fake_quant(x, low, high, bits=self.bits)
        if follows:
            y = activation_ops.with_gradient_of(x, y)
        return tf.cast(y, inputs.dtype)

    def calibrate(self, variables: Variables, low: float, high: float) -> None:
        """Sets the range, with what is trained at its start. low <= 0 < high; a fixed range stays."""
        self._range.calibrate(variables, low, high)

    def bounds(self, low: float, high: float) -> tuple[float, float]:
        """(low, high) of the range in use right after `calibrate(low, high)`."""
        return self._range.bounds(float(low), float(high))

    def grid(self, variables: Variables) -> tuple[np.float32, int]:
        """Scale and int8 zero point of the current range."""
        low, high = self.range(variables)
        return activation_ops.nudged_grid(low.numpy(), high.numpy(), self.bits)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ActivationQuantizer":
        """Of 0.1's configs too, which hold options that change nothing."""
        unused: tuple[str, ...] = ("ema_decay",) if config.get("ranges") == "trained" else ()
        if config.get("fixed") is not None:
            unused = ("bits", "unsigned", "ema_decay", "ranges", "symmetric")
        return cls(**{name: value for name, value in config.items() if name not in unused})


# bits, unsigned, ema_decay, ranges, symmetric of a quantizer that was given none of them.
_PLAIN = (8, False, _DECAY, "moving_average", False)
