"""The joint staircase of B ternary branches: stateless maths with custom gradients.

Notation (docs/notation.md): weights as columns w [K, M], one column per output channel; branch scales alpha [B, M];
R = 3**B - 1 thresholds t [R, M] on v = gamma1 * w; pre scale gamma1 [M]; post scale gamma2 [M]; temperature T.

derived: the sorted levels of sum_j alpha_j * b_j, b_j in {-1, 0, 1}, are 3**B; the region k = #{i: t_i < v} of a weight
selects its level, so the branch codes b_j come from one joint staircase and not from B independent ternaries.

choice: integer branch scales. With S = sum_j alpha_j the ratio alpha_j / S is snapped to p_j / 127 (integers that sum
to 127), so that a weight is exactly n * unit with n = sum_j p_j * b_j an int8 and unit = gamma2 * S / 127.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from keras_dbq.compat import tf
from keras_dbq.limits import TOP_LEVEL
from keras_dbq.ops.fitting import LARGEST_SECOND, climb, digit_table, fit_branch_scales, float_levels, optimal_ternary

LEVEL_SUM = TOP_LEVEL  # what the integer branch scales of a channel sum to
FORWARD_MODES = ("smooth", "hard", "straight_through")
# choice: the tensors [R, K, M] of one layer are made for so many columns at once that they have at most so many numbers
# (256 MB); columns know nothing of each other.
_NUMBERS_AT_ONCE = 2**26


class Staircase(NamedTuple):
    """Integer levels of every channel in ascending order.

    levels: float32 [R + 1, M], whole numbers from -127 to 127.
    digits: float32 [R + 1, B, M], the branch codes of each level.
    """

    levels: tf.Tensor
    digits: tf.Tensor


def integer_branch_scales(alpha: tf.Tensor) -> tf.Tensor:
    """Integer branch scales p [B, M] (float32 whole numbers, sum 127) nearest to 127 * alpha / sum(alpha).

    Branch 1 takes what the others leave: p_1 = 127 - sum_{j>1} p_j. Ties round to even. No gradient.
    """
    alpha = tf.stop_gradient(alpha)
    if alpha.shape[0] == 1:
        return tf.fill(tf.shape(alpha), float(LEVEL_SUM))
    rest = tf.round(LEVEL_SUM * alpha[1:] / tf.reduce_sum(alpha, 0))
    rest = tf.clip_by_value(rest, 0.0, float(LARGEST_SECOND[alpha.shape[0]]))
    return tf.concat([LEVEL_SUM - tf.reduce_sum(rest, 0, keepdims=True), rest], 0)


def staircase(integer_scales: tf.Tensor) -> Staircase:
    """Sorted integer levels and their digits for integer branch scales p [B, M]. No gradient."""
    branches = integer_scales.shape[0]
    digits = tf.constant(digit_table(branches))
    levels = tf.matmul(digits, integer_scales)
    if branches == 1:
        return Staircase(levels, tf.broadcast_to(digits[:, :, None], [3, 1, tf.shape(levels)[1]]))
    order = tf.argsort(levels, axis=0, stable=True)
    return Staircase(tf.sort(levels, axis=0), tf.transpose(tf.gather(digits, order), [0, 2, 1]))


def midpoint_thresholds(alpha: tf.Tensor) -> tf.Tensor:
    """Thresholds t [R, M] halfway between neighbouring levels, differentiable in alpha [B, M].

    t_i = sum_j alpha_j * (d_ij + d_{i+1,j}) / 2, with alpha snapped to the integer grid (straight-through).
    """
    scales = integer_branch_scales(alpha)
    snapped = alpha + tf.stop_gradient(scales * tf.reduce_sum(alpha, 0) / LEVEL_SUM - alpha)
    digits = staircase(scales).digits
    between = (digits[1:] + digits[:-1]) * 0.5
    return tf.reduce_sum(between * snapped[None], axis=1)


def ternary_branch(
    w: tf.Tensor,
    alpha: tf.Tensor,
    thresholds: tf.Tensor,
    gamma1: tf.Tensor,
    gamma2: tf.Tensor,
    temperature: tf.Tensor | float = 8.0,
    forward: str = "hard",
) -> tf.Tensor:
    """Quantizes weight columns to sums of ternary branches.

    derived: smooth  Q = unit * (-127 + sum_i s_i * sigma_i),  sigma_i = sigmoid(T * (gamma1 * w - t_i)),
             hard    the same with sigma_i = [gamma1 * w > t_i]  (a weight on a threshold takes the lower level);
             s_i the integer step heights, unit = gamma2 * sum(alpha) / 127.
    Gradients (g_i = T * sigma_i * (1 - sigma_i), d_ij the step of branch j's code at threshold i, c_j its code, in
    smooth mode the soft code -1 + sum_i d_ij sigma_i):
        dQ/dw = gamma1 * unit * sum_i s_i g_i     dQ/dt_i = -unit * s_i * g_i     dQ/dalpha_j = gamma2 * c_j
        dQ/dgamma1 = w * unit * sum_i s_i g_i     dQ/dgamma2 = Q / gamma2
    `hard` has the hard value with these gradients of the smooth curve at T; `straight_through` has the hard value,
    dQ/dw = 1 and no gradient for t and gamma1. The snap to integer scales is straight-through.

    Args:
      w: float32 [K, M] weight columns.
      alpha: float32 [B, M] branch scales, alpha_1 > alpha_2 > ... >= 0.
      thresholds: float32 [3**B - 1, M] in ascending order, in units of gamma1 * w.
      gamma1, gamma2: float32 [M], pre and post scale.
      temperature: float32 scalar T > 0; unused by `straight_through`.
      forward: "smooth", "hard" or "straight_through".

    Returns:
      float32 [K, M]; in the hard modes exactly float32(n) * unit.

    Raises:
      ValueError: unknown forward mode.

    Reference: Dbouk et al., ECCV 2020 (arXiv 2007.09818); the closest published ancestor is Yang et al., CVPR 2019.
    """
    if forward not in FORWARD_MODES:
        raise ValueError(f"forward: expected one of {', '.join(FORWARD_MODES)}, got {forward!r}")

    def of_columns(*arrays: Any) -> tf.Tensor:
        return _ternary_branch(arrays, tf.cast(temperature, w.dtype), forward)

    return _by_columns(of_columns, w, alpha, thresholds, gamma1, gamma2)


def _by_columns(function: Callable[..., tf.Tensor], w: tf.Tensor, *parameters: tf.Tensor) -> tf.Tensor:
    """function(w [K, M], *parameters [..., M]) -> [..., M], for groups of columns where `w` is large."""
    numbers = w.shape[0] * (3 ** parameters[0].shape[0] - 1)  # of one column
    width = max(1, _NUMBERS_AT_ONCE // numbers)
    if w.shape[1] <= width:
        return function(w, *parameters)
    groups = [slice(begin, begin + width) for begin in range(0, w.shape[1], width)]
    return tf.concat([function(*(array[..., group] for array in (w, *parameters))) for group in groups], -1)


def _ternary_branch(arrays: tuple[Any, ...], temperature: Any, forward: str) -> Any:
    """`ternary_branch` of some columns: of its first five arguments."""
    scales = integer_branch_scales(arrays[1])
    levels, digits = staircase(scales)

    @tf.custom_gradient
    def quantize(w: Any, alpha: Any, thresholds: Any, gamma1: Any, gamma2: Any) -> Any:
        unit = gamma2 * tf.reduce_sum(alpha, 0) / LEVEL_SUM
        steps = levels[1:] - levels[:-1]  # [R, M]
        digit_steps = tf.transpose(digits[1:] - digits[:-1], [1, 0, 2])  # [B, R, M]
        distance = gamma1 * w - thresholds[:, None, :]  # [R, K, M]
        if forward == "smooth":
            passed = tf.sigmoid(temperature * distance)
        else:
            passed = tf.cast(distance > 0, w.dtype)
        quantized = (tf.reduce_sum(steps[:, None, :] * passed, 0) - LEVEL_SUM) * unit

        def grad(dy: Any) -> Any:
            total = tf.reduce_sum(dy, 0)
            # Sums over the K weights of dy * sigma_i: every parameter gradient is linear in them.
            weighted = tf.reduce_sum(dy * passed, 1)  # [R, M]
            d_alpha = gamma2 * (tf.reduce_sum(digit_steps * weighted, 1) - total)
            d_gamma2 = unit / gamma2 * (tf.reduce_sum(steps * weighted, 0) - LEVEL_SUM * total)
            if forward == "straight_through":
                return dy, d_alpha, tf.zeros_like(thresholds), tf.zeros_like(gamma1), d_gamma2
            sigma = passed if forward == "smooth" else tf.sigmoid(temperature * distance)
            height = (temperature * unit * steps)[:, None, :] * (sigma * (1 - sigma))  # [R, K, M]: unit * s_i * g_i
            slope = tf.reduce_sum(height, 0)
            d_thresholds = -tf.reduce_sum(height * dy, 1)
            d_gamma1 = tf.reduce_sum(dy * slope * w, 0)
            return dy * slope * gamma1, d_alpha, d_thresholds, d_gamma1, d_gamma2

        return quantized, grad

    return quantize(*arrays)


def ternary_codes(w: tf.Tensor, alpha: tf.Tensor, thresholds: tf.Tensor, gamma1: tf.Tensor) -> tf.Tensor:
    """Branch codes int8 [B, K, M] of weight columns w [K, M]: the region choice of `ternary_branch`, op for op.

    Eager only.
    """
    digits = staircase(integer_branch_scales(alpha)).digits.numpy().astype(np.int8)  # [R + 1, B, M]
    return tf.constant(climb(np.asarray(w), np.asarray(thresholds), np.asarray(gamma1), digits.transpose(1, 0, 2)))


def ternary_levels(w: tf.Tensor, alpha: tf.Tensor, thresholds: tf.Tensor, gamma1: tf.Tensor) -> np.ndarray:
    """The integers n int8 [K, M] with Q(w) = n * unit: what the codes add up to, times the integer scales. Eager."""
    levels = staircase(integer_branch_scales(alpha)).levels.numpy().astype(np.int8)  # [R + 1, M]
    return climb(np.asarray(w), np.asarray(thresholds), np.asarray(gamma1), levels[None])[0]


__all__ = [
    "FORWARD_MODES",
    "LEVEL_SUM",
    "Staircase",
    "fit_branch_scales",
    "float_levels",
    "integer_branch_scales",
    "midpoint_thresholds",
    "optimal_ternary",
    "staircase",
    "ternary_branch",
    "ternary_codes",
    "ternary_levels",
]
