"""Trainable thresholds (FAT), stateless: from calibrated extremes and factors to thresholds, and weights on their grid.

source: Goncharenko, Denisov, Alyamkin, Terentev, IWANN 2019, arXiv 1812.07872. Activations go through
`activation_ops.fake_quant` with the ranges made here.
"""

from typing import Any, NamedTuple

from keras_dbq.compat import tf


class Interval(NamedTuple):
    """Where a trained factor may lie; the variable is projected there after each update."""

    low: float
    high: float

    def project(self, values: Any) -> Any:
        """values moved to the nearest point of the interval."""
        return tf.clip_by_value(values, self.low, self.high)


FACTOR = Interval(0.5, 1.0)  # source: T = clip(alpha, 0.5, 1) * T_max
WIDTH = Interval(0.5, 1.0)  # source: width = clip(a_R, 0.5, 1) * R
SHIFT = Interval(-0.2, 0.4)  # source: left = T_l + clip(a_T, -0.2, 0.4) * R
SHIFT_UNSIGNED = Interval(0.0, 0.4)  # source
POINTWISE = Interval(0.75, 1.25)  # source: of each weight and bias


def clipped(values: Any, interval: Interval) -> Any:
    """values inside the interval, with gradient 1 everywhere.

    choice: a clip in the graph has no gradient outside, and a value that left the interval never comes back; here the
    optimizer may pull it back, and `Interval.project` keeps the variable inside anyway.
    """
    return values + tf.stop_gradient(interval.project(values) - values)


@tf.custom_gradient
def scale_gradient(values: Any, factor: Any) -> Any:
    """values, with a gradient of factor * dy.

    A threshold's gradient is a sum over all numbers it bounds; with factor = 1 / sqrt(their count * largest code) it is
    of the size of a weight's (source: Esser et al., LSQ, ICLR 2020), so that one learning rate suits both.
    """
    return tf.identity(values), lambda dy: (dy * factor, None)


def symmetric_threshold(largest: Any, factor: Any) -> Any:
    """T = clip(factor, 0.5, 1) * largest; float32, shapes broadcast."""
    return clipped(factor, FACTOR) * largest


def symmetric_range(threshold: Any, bits: int, unsigned: bool) -> tuple[Any, Any]:
    """(low, high) of the grid with T at its top code and zero at code 0.

    Unsigned: [0, T] in 2^n - 1 steps. Signed: steps of T / (2^(n-1) - 1), and one code more below, which int8 has
    (derived: low = -T * 2^(n-1) / (2^(n-1) - 1), so that the grid has a zero point of exactly 0).
    """
    if unsigned:
        return 0.0 * threshold, threshold
    top = 2 ** (bits - 1) - 1
    return -threshold * ((top + 1) / top), threshold


def asymmetric_range(low: Any, high: Any, shift: Any, width: Any, unsigned: bool) -> tuple[Any, Any]:
    """(low, high) from the calibrated extremes: left = low + a_T R, right = left + a_R R, R = high - low.

    choice: zero has to have a code, so the range is widened to hold it (an unsigned range starts at 0 whatever a_T).
    """
    extent = high - low
    left = low + clipped(shift, SHIFT_UNSIGNED if unsigned else SHIFT) * extent
    right = left + clipped(width, WIDTH) * extent
    return tf.minimum(left, 0.0), tf.maximum(right, 0.0)


def quantize_weights(w: Any, threshold: Any, bits: int) -> Any:
    """n * T / L with n = clip(round(w L / T), -L, L), L = 2^(bits-1) - 1.

    source: the grid; derived (straight-through): dy/dw = 1 for |w| <= T, else 0; dy/dT = (y - w) / T for |w| <= T,
    else the sign of w.

    Args:
      w: float32 [K, M].  threshold: float32 [M], positive.  bits: 2 to 8.
    """
    top = 2 ** (bits - 1) - 1

    @tf.custom_gradient
    def quantize(w: Any, threshold: Any) -> Any:
        scale = threshold / top
        y = tf.clip_by_value(tf.round(w / scale), -top, top) * scale

        def grad(dy: Any) -> Any:
            inside = tf.cast(tf.abs(w) <= threshold, w.dtype)
            by_threshold = inside * (y - w) / threshold + (1 - inside) * tf.sign(w)
            return dy * inside, _sum_to(dy * by_threshold, threshold)

        return y, grad

    return quantize(w, threshold)


def _sum_to(gradient: Any, like: Any) -> Any:
    """Sums a gradient [K, M] over what was broadcast from `like`, [M] or [1]."""
    summed = tf.reduce_sum(gradient, 0)
    return tf.reduce_sum(summed, keepdims=True) if like.shape[0] == 1 and summed.shape[0] != 1 else summed
