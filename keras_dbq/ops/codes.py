"""Activations as few non-negative codes with a threshold of their own (TSQ's code learning), stateless.

Notation: codes k = 0 .. n, n = 2**bits - 1; step D, threshold eps. Q(x) = 0 for x <= eps, else the nearest of
D, 2D, ..., nD. source: Wang et al. (TSQ, CVPR 2018); eps = 0 is HWGQ (Cai et al., CVPR 2017).

derived: for x ~ N(0, 1), eps is the quantile of the wanted sparsity, and the D of least squared error over x > eps
solves D = sum_k k S1_k / sum_k k^2 S0_k, with S0_k, S1_k the probability and the first moment of the values of code k.
For eps = D / 2 Q is plain rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from keras_dbq.compat import tf

# (edges ascending [n + 1]) -> probability and first moment of the values between each pair, [n] each.
Moments = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
# choice: a threshold this near to half a step (in steps) is taken for half a step, whose codes need no operator of
# their own in the file. 62.5 % at 2 bits is so, as are the values in the authors' demo (0.32 and 0.6487).
_NEAR = 0.01
_ROUNDS = 500


class Codes(NamedTuple):
    """threshold: eps.  step: D."""

    threshold: float
    step: float

    @property
    def near_rounding(self) -> bool:
        """Whether eps is half a step, or so near that it is taken for that."""
        return abs(self.threshold - self.step / 2) <= _NEAR * self.step


def half_wave_gaussian(bits: int, sparsity: float | None = None) -> Codes:
    """Codes of least squared error for a normalised Gaussian input.

    Args:
      bits: 1 to 4.
      sparsity: share of all values that become 0, at least 0.5 (0.5: HWGQ); None: what plain rounding gives.
    """
    threshold = None if sparsity is None else max(0.0, NormalDist().inv_cdf(sparsity))
    return fit_codes(bits, _gaussian_moments, threshold, [1.0 / 2 ** (bits - 1)])


def fit_codes(bits: int, moments: Moments, threshold: float | None, starts: list[float]) -> Codes:
    """The step of least squared error above `threshold` (None: half of the step).

    Args:
      moments: of the values, see `Moments`.
      starts: of the iteration for the step; the best end is taken.
    """
    found = []
    for step in starts:
        for _ in range(_ROUNDS):
            along, power = _sums(bits, moments, threshold, step)
            new = along / power if power > 0 and along > 0 else step
            done, step = abs(new - step) < 1e-12 * step, new
            if done:
                break
        along, power = _sums(bits, moments, threshold, step)
        found.append((step**2 * power - 2 * step * along, step))
    best = min(found)[1]
    return Codes(best / 2 if threshold is None else threshold, best)


def _sums(bits: int, moments: Moments, threshold: float | None, step: float) -> tuple[float, float]:
    """sum_k k S1_k, sum_k k^2 S0_k."""
    k = np.arange(1, 2**bits)
    first = step / 2 if threshold is None else threshold
    # A threshold above one and a half steps leaves the lower codes unused.
    edges = np.maximum(np.concatenate([[first], (k[1:] - 0.5) * step, [np.inf]]), first)
    probability, moment = moments(edges)
    return float(k @ moment), float(k**2 @ probability)


def _gaussian_moments(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of N(0, 1): differences of the distribution and of minus the density."""
    normal = NormalDist()
    below = np.array([1.0 if np.isinf(edge) else normal.cdf(edge) for edge in edges])
    density = np.array([0.0 if np.isinf(edge) else normal.pdf(edge) for edge in edges])
    return np.diff(below), -np.diff(density)


def histogram_moments(centres: np.ndarray, counts: np.ndarray) -> Moments:
    """Of values with these counts at ascending centres."""
    shares = counts / counts.sum()
    totals = np.concatenate([[0.0], np.cumsum(shares)]), np.concatenate([[0.0], np.cumsum(shares * centres)])

    def moments(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        places = np.searchsorted(centres, edges, side="right")
        return np.diff(totals[0][places]), np.diff(totals[1][places])

    return moments


def sparse_codes(x: tf.Tensor, threshold: tf.Tensor, step: tf.Tensor, bits: int, rounded: bool = False) -> tf.Tensor:
    """Q(x), multiples of `step`; the gradient is 1 for 0 < x < n D, else 0 (source: TSQ; straight-through).

    Args:
      x: float32, any shape.  threshold, step: float32 scalars.  bits: 1 to 4.
      rounded: the threshold is half of the step, whatever `threshold` says; a tie goes up.
    """
    top = 2**bits - 1

    @tf.custom_gradient
    def quantize(x: Any) -> Any:
        code = tf.clip_by_value(tf.floor(x / step + 0.5), 0.0, float(top))
        if not rounded:
            code = tf.where(x > threshold, tf.maximum(code, 1.0), 0.0)

        def grad(dy: Any) -> Any:
            return tf.where(tf.logical_and(x > 0, x < top * step), dy, 0.0)

        return code * step, grad

    return quantize(x)
