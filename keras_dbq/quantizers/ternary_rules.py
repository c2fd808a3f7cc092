"""Ternary weights by the rules that sums of branches are compared with: TWN, its optimum, TTQ."""

from typing import Any

import numpy as np

from keras_dbq import _checks
from keras_dbq.compat import keras, tf
from keras_dbq.limits import TOP_LEVEL
from keras_dbq.quantizers.base import IntegerWeights, IntervalConstraint, Variables, WeightQuantizer, add_variable
from keras_dbq.quantizers.registry import announce
from keras_dbq.quantizers.ternary import TernaryWeights

METHODS = ("twn", "optimal_twn", "ttq")
_TWN_SHARE = 0.7  # of mean |w|. source: Li et al. (TWN), arXiv 1605.04711
_TTQ_SHARE = 0.05  # of max |w|. source: Zhu et al. (TTQ), ICLR 2017


@announce
class TernaryRuleQuantizer(WeightQuantizer):
    """Weights -n, 0 and p, cut at a threshold d that follows the weights; straight-through gradient.

    method "twn" (Li et al., arXiv 1605.04711): d = 0.7 mean|w|, n = p = the mean of |w| over |w| > d.
    method "optimal_twn" (derived): the d and n = p of least squared error.
    method "ttq" (Zhu et al., ICLR 2017): d = 0.05 max|w|, n and p trained. The gradient of a weight is multiplied by
    its side's p or n, 1 in the middle. choice: in units of the mean of both, so that one learning rate suits all
    layers. p and n are snapped to integers of 127 steps of the larger one, so that a file holds them exactly.

    Args:
      method: one of the three.
      per_channel: d, n and p of each output channel, or of the tensor.
      depthwise: the kernel is (h, w, C, multiplier), its channels are the last two axes.
      frozen: parts that do not train, of "weights" and "scales" (set by `keras_dbq.freeze`).
    """

    def __init__(
        self, method: str = "twn", per_channel: bool = True, depthwise: bool = False, frozen: tuple[str, ...] = ()
    ):
        self.method = _checks.one_of("method", method, METHODS)
        self.per_channel = _checks.boolean("per_channel", per_channel)
        self.depthwise = _checks.boolean("depthwise", depthwise)
        self.frozen = self._frozen(frozen)
        self.branches = 2 if method == "ttq" else 1  # that a packed file needs
        self.fits = ("least_error",) if method == "ttq" else ()

    def describe(self) -> str:
        return {"twn": "TWN", "optimal_twn": "optimal TWN", "ttq": "TTQ"}[self.method]

    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> Variables:
        if self.method != "ttq":
            return {}
        start, positive = np.ones(self.channels(tensor_shape)), IntervalConstraint(1e-12, 1e12)
        return {
            side: add_variable(layer, f"{name}_{side}", start, True, positive)
            for side in ("positive_scale", "negative_scale")
        }

    def quantize(self, columns: tf.Tensor, training: Any, variables: Variables) -> tf.Tensor:
        threshold = self._threshold(columns)
        return _staircase(columns, threshold, *self._scales(columns, threshold, variables))

    def _threshold(self, columns: tf.Tensor) -> tf.Tensor:
        """d, float32 [M]."""
        size = tf.abs(tf.stop_gradient(columns))
        if self.method == "twn":
            return _TWN_SHARE * tf.reduce_mean(size, 0)
        if self.method == "ttq":
            return _TTQ_SHARE * tf.reduce_max(size, 0)
        return 0.5 * _optimal_scale(size)

    def _scales(self, columns: tf.Tensor, threshold: tf.Tensor, variables: Variables) -> tuple[tf.Tensor, tf.Tensor]:
        """(p, n), float32 [M]."""
        if self.method == "ttq":
            return tuple(tf.convert_to_tensor(variables[f"{side}_scale"]) for side in ("positive", "negative"))
        size = tf.abs(tf.stop_gradient(columns))
        scale = _mean_where(size, size > threshold)
        return scale, scale

    def fit(self, kernel: np.ndarray, variables: Variables, way: str) -> None:
        """p and n start at the means of the weights on their sides ("least_error": the best for this d)."""
        columns = tf.constant(self.columns(np.asarray(kernel, np.float32)))
        threshold = self._threshold(columns)
        variables["positive_scale"].assign(_mean_where(columns, columns > threshold))
        variables["negative_scale"].assign(_mean_where(-columns, columns < -threshold))

    def integer_weights(self, kernel: np.ndarray, variables: Variables) -> IntegerWeights:
        """The kernel as it will stand in the file: values -n, 0 and p in steps of the larger one's 127th."""
        signs, _, positive, negative, unit = self._parts(kernel, variables)
        values = np.where(signs > 0, positive, np.where(signs < 0, -negative, 0)).astype(np.int8)
        scale = np.broadcast_to(unit, (self.output_channels(kernel.shape),)).copy()
        return IntegerWeights(values.reshape(kernel.shape), scale, self.branches, 0)

    def ternary_weights(self, kernel: np.ndarray, variables: Variables) -> TernaryWeights:
        """Codes, scales and thresholds of the branches that give the same weights.

        derived: with s <= 127 the smaller of p and n, 127 and s are levels of the branch scales (max(s, 127 - s),
        min(s, 127 - s)): the larger side is their sum, the smaller side one of them alone. Levels that no weight has
        lie behind infinite thresholds.
        """
        signs, threshold, positive, negative, unit = self._parts(kernel, variables)
        if self.branches == 1:
            return TernaryWeights(
                signs.reshape((1, *kernel.shape)).astype(np.int8),
                (TOP_LEVEL * unit)[None],
                np.full((1, len(unit)), TOP_LEVEL, np.int32),
                np.stack([-threshold, threshold]),
            )
        small = np.minimum(positive, negative)
        scales = np.stack([np.maximum(small, TOP_LEVEL - small), np.minimum(small, TOP_LEVEL - small)])
        of_small = np.stack([small == scales[0], small != scales[0]])  # [2, M]: which branch the smaller side has
        full = np.where(signs > 0, positive, negative) == TOP_LEVEL
        codes = np.where(full, signs, signs * of_small[:, None])
        return TernaryWeights(
            codes.reshape((2, *kernel.shape)).astype(np.int8),
            (scales * unit).astype(np.float32),
            scales.astype(np.int32),
            _joint_thresholds(scales, positive, negative, threshold),
        )

    def _parts(self, kernel: np.ndarray, variables: Variables) -> tuple[np.ndarray, ...]:
        """(signs [K, M], d [M], p and n in steps [M], step [M])."""
        columns = tf.constant(self.columns(np.asarray(kernel, np.float32)))
        threshold = self._threshold(columns)
        positive, negative, unit = _snapped(*self._scales(columns, threshold, variables))
        signs = tf.sign(columns) * tf.cast(tf.abs(columns) > threshold, tf.float32)
        return tuple(part.numpy() for part in (signs, threshold, positive, negative, unit))


def _snapped(positive: tf.Tensor, negative: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """(p, n) as whole numbers of steps, at least 1, the larger one 127; the step."""
    unit = tf.maximum(positive, negative) / TOP_LEVEL
    steps = (tf.clip_by_value(tf.round(scale / unit), 1.0, float(TOP_LEVEL)) for scale in (positive, negative))
    return *steps, unit


@tf.custom_gradient
def _staircase(w: tf.Tensor, threshold: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor) -> Any:
    above, below = tf.cast(w > threshold, w.dtype), tf.cast(w < -threshold, w.dtype)
    p, n, unit = _snapped(positive, negative)

    def grad(dy: tf.Tensor) -> tuple[Any, ...]:
        mean = 0.5 * (positive + negative)
        dw = dy * (above * positive / mean + below * negative / mean + (1 - above - below))
        return dw, None, tf.reduce_sum(dy * above, 0), -tf.reduce_sum(dy * below, 0)

    return (above * p - below * n) * unit, grad


def _mean_where(values: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Mean of each column over the chosen rows; 1 where there are none (every code is 0 there)."""
    chosen = tf.cast(chosen, values.dtype)
    count = tf.reduce_sum(chosen, 0)
    return tf.where(count > 0, tf.reduce_sum(values * chosen, 0) / tf.maximum(count, 1), 1.0)


def _optimal_scale(size: tf.Tensor) -> tf.Tensor:
    """The least-squares scale [M] of |w| [K, M], as `fitting.optimal_ternary` derives it; half of it is d."""
    total = tf.cumsum(tf.sort(size, 0, "DESCENDING"), 0)
    count = tf.range(1.0, tf.cast(tf.shape(size)[0], tf.float32) + 1)[:, None]
    best = tf.argmax(total**2 / count, 0)
    mean = tf.transpose(total / count)
    return tf.gather(mean, best, batch_dims=1)


def _joint_thresholds(scales: np.ndarray, positive: Any, negative: Any, threshold: np.ndarray) -> np.ndarray:
    """float32 [8, M]: where the staircase of two branches steps, so that only -n, 0 and p are reached."""
    digits = np.array([(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)])
    upper = np.sort(digits @ scales, 0)[1:]  # the level above each threshold
    steps = np.where(upper <= 0, -threshold, threshold)
    never = np.where(upper <= -negative, -np.inf, np.where(upper > positive, np.inf, steps))
    return never.astype(np.float32)
