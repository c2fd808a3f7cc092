"""How the range of an activation comes about: five policies with one interface.

A policy holds no variables of its own; it says which ones its tensor needs, and makes [low, high] from them.
"""

from collections.abc import Callable
from typing import Any

from keras_dbq.compat import tf
from keras_dbq.ops import replicas
from keras_dbq.ops import thresholds as threshold_ops
from keras_dbq.quantizers.base import Variables

# (suffix of the name, start, interval of a trained factor or None) -> variable
Add = Callable[[str, float, threshold_ops.Interval | None], tf.Variable]


class MovingRange:
    """The calibrated extremes [low, high], which follow each batch's in training.

    Args:
      bits: of the grid.
      unsigned: low stays 0 and is not measured.
      decay: weight of the past in the moving average; with 1 the extremes stay.
    """

    def __init__(self, bits: int, unsigned: bool, decay: float = 1.0):
        self.bits, self.unsigned, self.decay = bits, unsigned, decay

    @property
    def moves(self) -> bool:
        """Whether the extremes follow each batch's in training."""
        return self.decay < 1

    # Trained variables: {suffix: (start, interval)}.
    trained: dict[str, tuple[float, threshold_ops.Interval]] = {}

    def build(self, add: Add) -> Variables:
        """The variables, with the range [-6, 6] (or [0, 6]) until `calibrate`."""
        variables = {"low": add("low", 0.0 if self.unsigned else -6.0, None), "high": add("high", 6.0, None)}
        return variables | {name: add(name, *start) for name, start in self.trained.items()}

    def range(self, variables: Variables, count: Any) -> tuple[Any, Any]:
        """(low, high) in use, float32 scalars. count: numbers bounded in one picture (for trained factors)."""
        return self.bounds(tf.convert_to_tensor(variables["low"]), tf.convert_to_tensor(variables["high"]))

    def bounds(self, low: Any, high: Any) -> tuple[Any, Any]:
        """(low, high) in use right after `calibrate(low, high)`; numbers or tensors."""
        return low, high

    def calibrate(self, variables: Variables, low: float, high: float) -> None:
        """Sets the extremes, and what is trained to its start. low <= 0 < high."""
        variables["low"].assign(low)
        variables["high"].assign(high)
        for name, (start, _) in self.trained.items():
            variables[name].assign(start)

    def follow(self, variables: Variables, batch: Any) -> None:
        """extreme = decay * extreme + (1 - decay) * the batch's; the range always holds zero and is never empty.

        Replicas of a strategy take the extremes of the whole batch, so that all of them keep the same range.
        """
        batch = tf.stop_gradient(tf.cast(batch, tf.float32))
        lowest = 0.0 if self.unsigned else tf.reduce_min(batch)
        below, above = tf.unstack(replicas.maximum(tf.stack([-lowest, tf.reduce_max(batch)])))
        low, high = variables["low"], variables["high"]
        # A tensor that is zero everywhere, behind a dead ReLU, says nothing about its range.
        step = (1 - self.decay) * tf.cast(tf.maximum(below, above) > 0, tf.float32)
        high.assign_sub(step * (high - tf.maximum(above, 1e-5)))
        if not self.unsigned:
            low.assign_sub(step * (low - tf.minimum(-below, 0.0)))

    def _factors(self, variables: Variables, count: Any) -> dict[str, Any]:
        """What is trained, with gradients scaled to the size of a weight's (`threshold_ops.scale_gradient`)."""
        share = tf.math.rsqrt(tf.maximum(tf.cast(count, tf.float32), 1.0) * (2**self.bits - 1))
        return {n: threshold_ops.scale_gradient(tf.convert_to_tensor(variables[n]), share) for n in self.trained}


class SymmetricRange(MovingRange):
    """Zero point 0, or a range that starts at 0: T = max(-low, high) of extremes that follow each batch's."""

    def bounds(self, low: Any, high: Any) -> tuple[Any, Any]:
        largest = max(-low, high) if isinstance(low, float) else tf.maximum(-low, high)
        return threshold_ops.symmetric_range(largest, self.bits, self.unsigned)


class TrainedSymmetricRange(SymmetricRange):
    """T = factor * max(-low, high); the extremes stay, the factor trains."""

    trained = {"factor": (1.0, threshold_ops.FACTOR)}

    def range(self, variables: Variables, count: Any) -> tuple[Any, Any]:
        low, high = tf.convert_to_tensor(variables["low"]), tf.convert_to_tensor(variables["high"])
        factor = self._factors(variables, count)["factor"]
        threshold = threshold_ops.symmetric_threshold(tf.maximum(-low, high), factor)
        return threshold_ops.symmetric_range(threshold, self.bits, self.unsigned)


class TrainedRange(MovingRange):
    """A shift and a width of the extremes, which stay; an unsigned range starts at zero, so it has no shift."""

    def __init__(self, bits: int, unsigned: bool):
        super().__init__(bits, unsigned)
        shift = {} if unsigned else {"shift": (0.0, threshold_ops.SHIFT)}
        self.trained = {"width": (1.0, threshold_ops.WIDTH), **shift}

    def range(self, variables: Variables, count: Any) -> tuple[Any, Any]:
        low, high = tf.convert_to_tensor(variables["low"]), tf.convert_to_tensor(variables["high"])
        factors = self._factors(variables, count)
        return threshold_ops.asymmetric_range(low, high, factors.get("shift", 0.0), factors["width"], self.unsigned)


class FixedRange(MovingRange):
    """A range that is known: softmax, sigmoid, tanh. Its variables are only there to be looked at."""

    def __init__(self, bits: int, low: float, high: float):
        super().__init__(bits, unsigned=False)
        self.low, self.high = low, high

    def build(self, add: Add) -> Variables:
        return {"low": add("low", self.low, None), "high": add("high", self.high, None)}

    def bounds(self, low: Any, high: Any) -> tuple[Any, Any]:
        return self.low, self.high

    def range(self, variables: Variables, count: Any) -> tuple[Any, Any]:
        return tf.convert_to_tensor(variables["low"]), tf.convert_to_tensor(variables["high"])

    def calibrate(self, variables: Variables, low: float, high: float) -> None:
        """Stays."""
