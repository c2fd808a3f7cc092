"""Fake quantization of activations with an affine grid of 2**bits codes (stateless).

choice: the forward pass is TensorFlow's own fake-quant operator, because the TFLite converter reads it; the nudging of
the range to a grid that holds zero exactly is repeated here in numpy, so that export and checks know the grid.
"""

from typing import Any

import numpy as np

from keras_dbq.compat import tf


def _where_positive(values: tf.Tensor, condition: tf.Tensor) -> tf.Tensor:
    """values where condition > 0, else 0: three times faster on a CPU than tf.where, and this is the hot path."""
    return tf.raw_ops.ReluGrad(gradients=values, features=condition)


def fake_quant(x: tf.Tensor, low: tf.Tensor, high: tf.Tensor, bits: int = 8) -> tf.Tensor:
    """Rounds x to the grid of [low, high] with 2**bits codes.

    source: Jacob et al., CVPR 2018 (straight-through): dy/dx = 1 inside the range, 0 outside.
    derived (the nudging of the range aside): dy/dhigh = (y - x) / (high - low) inside, 1 for x >= high, 0 for x <= low;
    dy/dlow = -(y - x) / (high - low) inside, 1 for x <= low, 0 for x >= high.

    Args:
      x: float32, any shape.  low <= 0 <= high: float32 scalars.  bits: 2 to 8.
    """

    @tf.custom_gradient
    def quantize(x: Any, low: Any, high: Any) -> Any:
        y = tf.quantization.fake_quant_with_min_max_vars(x, *settled_range(low, high, bits), num_bits=bits)

        def grad(dy: Any) -> Any:
            below_high, above_low = _where_positive(dy, high - x), _where_positive(dy, x - low)
            inside = _where_positive(below_high, x - low)
            # Left out of the graph where nothing trains the range.
            error = tf.reduce_sum(inside * (y - x)) / (high - low)
            return inside, tf.reduce_sum(dy - above_low) - error, tf.reduce_sum(dy - below_high) + error

        return y, grad

    return quantize(x, low, high)


def fake_quant_unsigned(x: tf.Tensor, high: tf.Tensor, bits: int = 8) -> tf.Tensor:
    """`fake_quant` for x >= 0 (after a ReLU) with low = 0: one comparison less in the gradient."""

    @tf.custom_gradient
    def quantize(x: Any, high: Any) -> Any:
        y = tf.quantization.fake_quant_with_min_max_vars(x, tf.zeros_like(high), high, num_bits=bits)

        def grad(dy: Any) -> Any:
            inside = _where_positive(dy, high - x)
            return inside, tf.reduce_sum(dy - inside) + tf.reduce_sum(inside * (y - x)) / high

        return y, grad

    return quantize(x, high)


def with_gradient_of(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """y, whose gradient is that of x.

    For a range that follows the batches: what lies outside of it has to be able to come back. Where its gradient is 0,
    a network that is trained from scratch, whose outputs outgrow the range in a few steps, stops learning.
    """

    @tf.custom_gradient
    def forward(x: Any) -> Any:
        return tf.stop_gradient(y), lambda dy: dy

    return forward(x)


def grid_scale(low: Any, high: Any, bits: int = 8) -> Any:
    """(high - low) / (2**bits - 1), the width of one code: float32, of numpy scalars or of tensors.

    source: TensorFlow's fake-quant operator, whose float32 arithmetic this is.
    """
    return (high - low) / np.float32(2**bits - 1)


def settled_range(low: tf.Tensor, high: tf.Tensor, bits: int = 8) -> tuple[tf.Tensor, tf.Tensor]:
    """[low, high], moved onto its grid where the zero point lies close to the middle of two codes.

    XLA's fake-quant operator computes the zero point in other float32 steps than TensorFlow's kernel, which in the
    middle may round it to the other code (tensorflow#117962). choice: there, zero point and range are computed here as
    `nudged_grid` does, each float32 step in float64 and rounded, which XLA cannot change; on the grid both agree.
    """
    top = 2**bits - 1

    def rounded(value: Any) -> Any:
        return tf.cast(tf.cast(value, tf.float32), tf.float64)

    low64, extent = tf.cast(low, tf.float64), rounded(tf.cast(high, tf.float64) - tf.cast(low, tf.float64))
    scale = rounded(extent / top)
    code = rounded(-low64 / tf.where(scale > 0, scale, 1.0))
    zero = tf.clip_by_value(tf.floor(rounded(code + 0.5)), 0.0, float(top))
    close = tf.logical_and(scale > 0, tf.abs(code - tf.floor(code) - 0.5) < 1e-3)
    moved = tf.cast(-zero * scale, tf.float32), tf.cast((top - zero) * scale, tf.float32)
    return tf.where(close, moved[0], low), tf.where(close, moved[1], high)


def rounded_to(values: np.ndarray, scale: np.float32, zero_point: int, bits: int) -> np.ndarray:
    """Values on the grid of `nudged_grid`, clipped to its range; ties to even, float64 where the values are."""
    codes = np.clip(np.rint(values / scale) + zero_point, bottom_code(bits), 127)
    return np.asarray((codes - zero_point) * np.float64(scale))


def nudged_grid(low: float, high: float, bits: int = 8) -> tuple[np.float32, int]:
    """Scale (float32) and int8 zero point of the grid that fake_quant uses for [low, high].

    source: TensorFlow's fake-quant operator: the scale is `grid_scale`; the zero point 0 - low / scale is rounded half
    away from zero and clipped to the codes. choice: codes end at 127 whatever the bits (`bottom_code`).
    """
    bottom = np.float32(low)
    scale = np.float32(grid_scale(bottom, np.float32(high), bits))
    if not scale > 0:
        return np.float32(1.0), bottom_code(bits)
    code = np.float32(0) - bottom / scale
    return scale, int(np.clip(np.floor(code + np.float32(0.5)), 0, 2**bits - 1)) + bottom_code(bits)


def bottom_code(bits: int) -> int:
    """The smallest int8 code of an activation: the codes are bottom_code .. 127.

    choice: at the upper end of int8, so that saturation clips them above and, where zero is the smallest code, ReLU
    clips them below; only a range with negative values under 8 bits needs an operator of its own for that.
    """
    return 128 - 2**bits
