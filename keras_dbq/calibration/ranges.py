"""Activation ranges from pictures: extremes, moving average, percentile, or the least squared error.

Every estimator looks at one batch at a time and keeps a few numbers, or a histogram, per tensor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_dbq import _checks
from keras_dbq.compat import keras
from keras_dbq.network.batches import Batches
from keras_dbq.ops import activations as activation_ops
from keras_dbq.quantizers import CodeQuantizer
from keras_dbq.wrapping import wrappers

SMALLEST = 1e-5  # a range is never empty
# The upper end of a tensor that was zero everywhere. choice: any grid is right for it, but one of tiny steps would ask
# for a multiplier that the runtimes refuse.
UNSEEN = 1.0
BINS = 4096  # of a histogram, on each side of zero


class Observer:
    """Collects what one tensor's values are.

    Args:
      name: of the tensor's layer, for messages.
      quantizer: its ActivationQuantizer.
    """

    def __init__(self, name: str, quantizer: Any):
        self.name, self.quantizer = name, quantizer

    def update(self, values: np.ndarray) -> None:
        """One batch, float32 of any shape.

        Raises:
          ValueError: NaN or infinity.
        """
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(
                f"layer {self.name!r}: expected finite activations in calibration, got NaN or infinity; check the "
                "network's weights and the pictures' scale"
            )
        self.add(values, low, high)

    def add(self, values: np.ndarray, low: float, high: float) -> None:
        """One batch of finite values with these extremes."""
        raise NotImplementedError

    def range(self) -> tuple[float, float]:
        """(low, high) as far as it is known."""
        raise NotImplementedError


class RangeEstimator:
    """A way to choose activation ranges; immutable, one `observer` per tensor."""

    def observer(self, name: str, quantizer: Any) -> Observer:
        """What watches one tensor."""
        raise NotImplementedError

    # Whether weight thresholds start where the squared error is least, too.
    fits_weights = False


@dataclass(frozen=True)
class MinMax(RangeEstimator):
    """The extremes over all batches ("max")."""

    def observer(self, name: str, quantizer: Any) -> Observer:
        return _Extremes(name, quantizer)


@dataclass(frozen=True)
class MovingAverage(RangeEstimator):
    """Each batch's extremes, averaged with decreasing weight ("moving_average").

    Args:
      decay: weight of the past, in [0, 1): low = decay * low + (1 - decay) * batch minimum, from the first batch's on.
    """

    decay: float = 0.9

    def __post_init__(self) -> None:
        _checks.number("decay", self.decay, 0.0, 1 - 1e-9)

    def observer(self, name: str, quantizer: Any) -> Observer:
        return _Averages(name, quantizer, self.decay)


@dataclass(frozen=True)
class Percentile(RangeEstimator):
    """Bounds that a share of the values lies within ("percentile").

    Args:
      percent: in (50, 100]: this share of the values lies below the upper bound, and as many above the lower one
        (which stays 0 where the tensor is never negative). Read from a histogram of 4096 bins a side.
    """

    percent: float = 99.99

    def __post_init__(self) -> None:
        _checks.number("percent", self.percent, 50 + 1e-9, 100.0)

    def observer(self, name: str, quantizer: Any) -> Observer:
        return _Quantiles(name, quantizer, self.percent / 100)


@dataclass(frozen=True)
class MeanSquaredError(RangeEstimator):
    """The range whose grid has the least mean squared error over all values ("mse").

    derived: exhaustive over `steps` fractions of the extremes: of both together for a symmetric quantizer, of one after
    the other, twice, otherwise; the error is that of a histogram's bin centres. Weight thresholds that are trained
    start at their channel's least squared error as well.

    Args:
      steps: fractions tried, from 1 / steps to 1.
    """

    steps: int = 100
    fits_weights = True

    def __post_init__(self) -> None:
        _checks.integer("steps", self.steps, 2, 10000)

    def observer(self, name: str, quantizer: Any) -> Observer:
        return _LeastError(name, quantizer, self.steps)


_BY_NAME = {"max": MinMax, "moving_average": MovingAverage, "percentile": Percentile, "mse": MeanSquaredError}


def estimator(method: str | RangeEstimator) -> RangeEstimator:
    """The estimator of that name ("max", "moving_average", "percentile", "mse"), or the one given.

    Raises:
      ValueError: an unknown name, or something else.
    """
    if isinstance(method, RangeEstimator):
        return method
    return _BY_NAME[_checks.one_of("calibration", method, _BY_NAME)]()


class _Extremes(Observer):
    low, high = 0.0, SMALLEST

    def add(self, values: np.ndarray, low: float, high: float) -> None:
        self.low, self.high = min(self.low, low), max(self.high, high)

    def range(self) -> tuple[float, float]:
        return (0.0 if self.quantizer.unsigned else self.low), self.high


class _Averages(_Extremes):
    def __init__(self, name: str, quantizer: Any, decay: float):
        super().__init__(name, quantizer)
        self.decay, self.seen = decay, False

    def add(self, values: np.ndarray, low: float, high: float) -> None:
        low, high = min(low, 0.0), max(high, SMALLEST)
        keep = self.decay if self.seen else 0.0
        self.low, self.high = keep * self.low + (1 - keep) * low, keep * self.high + (1 - keep) * high
        self.seen = True


class _Histogram(_Extremes):
    """Counts in equal bins over [-limit, limit); the limit is a power of two, so that doubling it merges pairs of bins
    and the counts do not depend on the order of the batches.
    """

    def __init__(self, name: str, quantizer: Any):
        super().__init__(name, quantizer)
        self.limit = 0.0
        self.counts = np.zeros(2 * BINS, np.int64)

    def add(self, values: np.ndarray, low: float, high: float) -> None:
        super().add(values, low, high)
        wanted = 2.0 ** math.ceil(math.log2(max(-self.low, self.high)))
        if self.limit == 0:
            self.limit = wanted
        while self.limit < wanted:
            self.counts = np.concatenate(
                [np.zeros(BINS // 2, np.int64), self.counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2, np.int64)]
            )
            self.limit *= 2
        places = (values.reshape(-1) * np.float32(BINS / self.limit) + np.float32(BINS)).astype(np.int32)
        self.counts += np.bincount(np.clip(places, 0, 2 * BINS - 1), minlength=2 * BINS)

    @property
    def centres(self) -> np.ndarray:
        """Middle of each bin, float64 [2 * BINS]."""
        return (np.arange(2 * BINS) + 0.5 - BINS) * (self.limit / BINS)


class _Quantiles(_Histogram):
    def __init__(self, name: str, quantizer: Any, share: float):
        super().__init__(name, quantizer)
        self.share = share

    def range(self) -> tuple[float, float]:
        low, high = super().range()
        total = np.cumsum(self.counts, dtype=np.float64)
        if total[-1] == 0:
            return low, high
        edges = (np.arange(2 * BINS + 1) - BINS) * (self.limit / BINS)
        below = np.concatenate([[0.0], total / total[-1]])
        bounds = np.interp([1 - self.share, self.share], below, edges)
        return max(low, min(bounds[0], 0.0)), min(high, max(bounds[1], SMALLEST))


class _LeastError(_Histogram):
    def __init__(self, name: str, quantizer: Any, steps: int):
        super().__init__(name, quantizer)
        self.steps = steps

    def range(self) -> tuple[float, float]:
        low, high = super().range()
        filled = np.flatnonzero(self.counts)
        if not len(filled):
            return low, high
        centres, counts = self.centres[filled], self.counts[filled].astype(np.float64)
        fractions = np.arange(self.steps, 0, -1) / self.steps  # the widest range first: it wins a tie

        def best(candidates: list[tuple[float, float]]) -> tuple[float, float]:
            errors = []
            for candidate in candidates:
                bounds = self.quantizer.bounds(*candidate)
                errors.append(squared_error(centres, counts, bounds[0], bounds[1], self.quantizer.bits))
            return candidates[int(np.argmin(errors))]

        if self.quantizer.symmetric or self.quantizer.unsigned or low == 0:
            return best([(f * low, max(f * high, SMALLEST)) for f in fractions])
        for _ in range(2):
            high = best([(low, max(f * self.high, SMALLEST)) for f in fractions])[1]
            low = best([(f * self.low, high) for f in fractions])[0]
        return low, high


class _Codes(_Histogram):
    """For a `CodeQuantizer`: its threshold, and its largest value."""

    def range(self) -> tuple[float, float]:
        if self.high <= SMALLEST:
            return 0.0, self.high
        filled = self.counts > 0
        return self.quantizer.fitted(self.centres[filled], self.counts[filled].astype(np.float64))


def squared_error(values: np.ndarray, counts: np.ndarray, low: float, high: float, bits: int) -> float:
    """Sum of counts * (fake_quant(v) - v)^2 for the grid of [low, high]."""
    scale, zero_point = activation_ops.nudged_grid(low, high, bits)
    return float(counts @ (activation_ops.rounded_to(values, scale, zero_point, bits) - values) ** 2)


def _observer(chosen: RangeEstimator, tensor: wrappers.QuantizedTensor) -> Observer:
    kind = _Codes if isinstance(tensor.quantizer, CodeQuantizer) else chosen.observer
    return kind(tensor.layer_name, tensor.quantizer)


def observe_ranges(
    model: keras.Model, batches: Batches, method: str | RangeEstimator = "max", float_weights: bool = False
) -> None:
    """Sets every activation range from the batches, with activations in float.

    Args:
      model: quantized model.
      batches: pictures.
      method: see `estimator`.
      float_weights: look at what the float weights give.
    """
    chosen = estimator(method)
    tensors = [t for layer in wrappers.all_layers(model) if (t := wrappers.quantized_output(layer)) is not None]
    # By variable: two layers may share a quantizer, never its variables.
    observers = {id(t.variables["high"]): _observer(chosen, t) for t in tensors}

    def observe(variables: dict[str, Any], values: Any) -> None:
        observers[id(variables["high"])].update(np.asarray(values, np.float32))

    with wrappers.quantizer_flags(model, observing=observe, weights_bypass=float_weights):
        for batch in batches.read("activation ranges"):
            model(batch if len(batch) > 1 else batch[0], training=False)
    for tensor in tensors:
        low, high = observers[id(tensor.variables["high"])].range()
        unseen = low == 0 and high <= SMALLEST
        tensor.quantizer.calibrate(tensor.variables, low, UNSEEN if unseen else high)
