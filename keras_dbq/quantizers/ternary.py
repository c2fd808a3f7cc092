"""Weights as sums of ternary branches (DBQ)."""

from typing import Any, NamedTuple

import numpy as np

from keras_dbq import _checks
from keras_dbq.compat import keras, register, tf
from keras_dbq.limits import TOP_LEVEL
from keras_dbq.ops import branches as branch_ops
from keras_dbq.ops.weight_levels import TernaryLevels
from keras_dbq.quantizers.base import INSIDE, IntegerWeights, Variables, WeightQuantizer, add_variable
from keras_dbq.quantizers.registry import announce


class TernaryWeights(NamedTuple):
    """What a ternary layer has learnt.

    codes: int8 [B, *kernel shape], the ternary branches.
    scales: float32 [B, M]; kernel = sum_j scales[j] * codes[j], exactly unit * (p * codes[0] + q * codes[1]).
    integer_scales: int [B, M], p and q, with p + q = 127.
    thresholds: float32 [3**B - 1, M], in units of the float kernel.
    """

    codes: np.ndarray
    scales: np.ndarray
    integer_scales: np.ndarray
    thresholds: np.ndarray


@register
class BranchScaleConstraint(keras.constraints.Constraint):
    """Keeps alpha [B, M] positive and alpha_j <= alpha_{j-1} (projection, so that no gradient dies)."""

    def __call__(self, alpha: Any) -> Any:
        rows = [tf.maximum(alpha[:1], 1e-4)]
        for j in range(1, alpha.shape[0]):
            rows.append(tf.minimum(tf.maximum(alpha[j : j + 1], 0.0), 0.95 * rows[-1]))
        return tf.concat(rows, 0) if len(rows) > 1 else rows[0]


@register
class AscendingConstraint(keras.constraints.Constraint):
    """Keeps thresholds [R, M] in ascending order along axis 0 (projection by sorting)."""

    def __call__(self, thresholds: Any) -> Any:
        return tf.sort(thresholds, axis=0)


@announce
class TernaryBranchQuantizer(WeightQuantizer):
    """Weights as a sum of ternary branches (DBQ); see `branch_ops.ternary_branch` for the equations.

    Args:
      branches: B, 1 to 3.
      forward: "smooth" (sigmoids at temperature T), "hard" (the staircase, gradient of the smooth curve) or
        "straight_through". With training=False the staircase is always hard.
      thresholds: "midpoint" of the levels, or "trained" as variables of their own.
      per_channel: one set of parameters per output channel, or one per tensor.
      depthwise: the kernel is (h, w, C, multiplier), its channels are the last two axes.
      temperature: T at the start, in units of 1 / std of the channel's weights; a schedule may change it.
      train_pre_scale, train_post_scale: whether gamma1, gamma2 are trained (both pairs are scale-degenerate with
        thresholds and alpha, so the default fixes them to 1 / std and std of the float weights).
      frozen: parts that do not train, of "weights" and "scales" (set by `keras_dbq.freeze`).
    """

    fits = ("least_error",)

    def __init__(
        self,
        branches: int = 2,
        forward: str = "hard",
        thresholds: str = "trained",
        per_channel: bool = True,
        depthwise: bool = False,
        temperature: float = 8.0,
        train_pre_scale: bool = False,
        train_post_scale: bool = False,
        frozen: tuple[str, ...] = (),
    ):
        self.branches = _checks.integer("branches", branches, 1, 3)
        self.forward = _checks.one_of("forward", forward, branch_ops.FORWARD_MODES)
        self.thresholds = _checks.one_of("thresholds", thresholds, ("midpoint", "trained"))
        self.per_channel = _checks.boolean("per_channel", per_channel)
        self.depthwise = _checks.boolean("depthwise", depthwise)
        self.temperature = _checks.number("temperature", temperature, 1e-3, 1e6)
        self.train_pre_scale = _checks.boolean("train_pre_scale", train_pre_scale)
        self.train_post_scale = _checks.boolean("train_post_scale", train_post_scale)
        self.frozen = self._frozen(frozen)

    def describe(self) -> str:
        return f"{self.branches} ternary branch{'es' if self.branches > 1 else ''}"

    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> Variables:
        channels = self.channels(tensor_shape)

        def add(suffix: str, start: Any, trainable: bool, constraint: Any = None) -> tf.Variable:
            return add_variable(layer, f"{name}_{suffix}", start, trainable, constraint)

        # Until `initialize` fits them, scales in descending order, so that the levels are distinct.
        start = np.repeat(3.0 ** -np.arange(self.branches)[:, None], channels, 1)
        variables = {
            "branch_scales": add("branch_scales", start, True, BranchScaleConstraint()),
            "pre_scale": add("pre_scale", np.ones(channels), self.train_pre_scale),
            "post_scale": add("post_scale", np.ones(channels), self.train_post_scale),
            "temperature": add("temperature", self.temperature, False),
        }
        if self.thresholds == "trained":
            spread = np.repeat(np.linspace(-1, 1, 3**self.branches - 1)[:, None], channels, 1)
            variables["thresholds"] = add("thresholds", spread, True, AscendingConstraint())
        return variables

    def quantize(self, columns: tf.Tensor, training: Any, variables: Variables) -> tf.Tensor:
        forward = self.forward if training or self.training_forward else "hard"
        return self._branches(columns, variables, tf.convert_to_tensor(variables["temperature"]), forward)

    def soft(self, columns: tf.Tensor, variables: Variables, sharpness: Any) -> tf.Tensor:
        # From -sum(alpha) to sum(alpha) there are 3**B - 1 gaps, in units of gamma1 * w.
        reach = tf.reduce_mean(tf.reduce_sum(tf.stop_gradient(tf.convert_to_tensor(variables["branch_scales"])), 0))
        gap = 2 * reach / (3**self.branches - 1)
        return self._branches(columns, variables, sharpness / gap, "smooth")

    def _branches(self, columns: tf.Tensor, variables: Variables, temperature: Any, forward: str) -> tf.Tensor:
        return branch_ops.ternary_branch(
            columns,
            tf.convert_to_tensor(variables["branch_scales"]),
            self._thresholds(variables),
            tf.convert_to_tensor(variables["pre_scale"]),
            tf.convert_to_tensor(variables["post_scale"]),
            temperature,
            forward=forward,
        )

    def _thresholds(self, variables: Variables) -> tf.Tensor:
        if self.thresholds == "trained":
            return tf.convert_to_tensor(variables["thresholds"])
        return branch_ops.midpoint_thresholds(tf.convert_to_tensor(variables["branch_scales"]))

    def fit(self, kernel: np.ndarray, variables: Variables, way: str) -> None:
        """Least squared error ("least_error", the only way): scales in units of each channel's standard deviation, and
        thresholds halfway between their levels.
        """
        w = np.asarray(self.columns(np.asarray(kernel, np.float32)), np.float64)
        deviation = w.std(0)
        deviation = np.where(deviation > 0, deviation, 1.0)
        alpha = branch_ops.fit_branch_scales(w / deviation, self.branches)
        constrained = BranchScaleConstraint()(tf.constant(alpha, tf.float32))
        variables["branch_scales"].assign(constrained)
        variables["pre_scale"].assign((1 / deviation).astype(np.float32))
        variables["post_scale"].assign(deviation.astype(np.float32))
        if "thresholds" in variables:
            variables["thresholds"].assign(branch_ops.midpoint_thresholds(constrained))

    @property
    def levels(self) -> TernaryLevels:
        return TernaryLevels(self.branches)

    @property
    def few_levels(self) -> bool:
        return True

    def assign(self, kernel: tf.Variable, variables: Variables, codes: np.ndarray, scales: np.ndarray) -> None:
        deviation = variables["post_scale"].numpy().astype(np.float64)
        alpha = BranchScaleConstraint()(tf.constant(scales / deviation, tf.float32))
        variables["branch_scales"].assign(alpha)
        variables["pre_scale"].assign((1 / deviation).astype(np.float32))
        if "thresholds" in variables:
            variables["thresholds"].assign(branch_ops.midpoint_thresholds(alpha))
        self.settle(kernel, variables, (codes * scales[:, None]).sum(0))

    def neighbours(self, kernel: np.ndarray, variables: Variables) -> tuple[np.ndarray, np.ndarray]:
        columns, levels = np.asarray(self.columns(kernel), np.float64), self._values(variables)
        above = sum((columns >= level).astype(np.int64) for level in levels)
        picked = (np.clip(above - 1, 0, len(levels) - 1), np.clip(above, 0, len(levels) - 1))
        low, high = (np.take_along_axis(levels, index, 0) for index in picked)
        return low, high

    def settle(self, kernel: tf.Variable, variables: Variables, wanted: np.ndarray) -> None:
        levels = self._values(variables)
        thresholds = (self._thresholds(variables) / variables["pre_scale"]).numpy().astype(np.float64)
        end = np.full((1, levels.shape[1]), np.inf)
        low = np.concatenate([-end, thresholds + INSIDE * (levels[1:] - thresholds)])
        high = np.concatenate([thresholds - INSIDE * (thresholds - levels[:-1]), end])
        columns = np.asarray(self.columns(kernel.numpy()), np.float64)
        nearest = np.zeros(columns.shape, np.int8)  # its place in `levels`
        for middle in (levels[1:] + levels[:-1]) / 2:
            nearest += wanted > middle
        at_level, low, high = (np.take_along_axis(part, nearest, 0) for part in (levels, low, high))
        near = np.clip(columns, low, high)
        # Where two levels nearly touch, float32 has no room beside the level.
        near32 = near.astype(np.float32).reshape(kernel.shape)
        integer = self.integer_weights(near32, variables)
        have = self.columns(integer.values).astype(np.float64) * self._unit(variables)
        right = np.abs(have - at_level) <= 1e-4 * np.abs(at_level) + 1e-30
        kernel.assign(np.where(right, near, at_level).astype(np.float32).reshape(kernel.shape))

    def _values(self, variables: Variables) -> np.ndarray:
        """Of the levels, in ascending order, float64 [3**B, M]."""
        scales = branch_ops.integer_branch_scales(tf.convert_to_tensor(variables["branch_scales"]))
        return np.asarray(branch_ops.staircase(scales).levels.numpy().astype(np.float64) * self._unit(variables))

    def ternary_weights(self, kernel: np.ndarray, variables: Variables) -> TernaryWeights:
        """Codes, scales and thresholds that the hard forward uses for this kernel."""
        columns = tf.constant(self.columns(np.asarray(kernel, np.float32)))
        alpha = tf.convert_to_tensor(variables["branch_scales"])
        thresholds = self._thresholds(variables)
        gamma1 = tf.convert_to_tensor(variables["pre_scale"])
        codes = branch_ops.ternary_codes(columns, alpha, thresholds, gamma1).numpy()
        p = branch_ops.integer_branch_scales(alpha).numpy()
        return TernaryWeights(
            codes=codes.reshape((self.branches, *kernel.shape)),
            scales=p * self._unit(variables),
            integer_scales=p.astype(np.int32),
            thresholds=(thresholds / gamma1).numpy(),
        )

    def _unit(self, variables: Variables) -> np.ndarray:
        """Real value of integer level 1, float32 [M]: the same operations as in `ternary_branch`."""
        unit = variables["post_scale"] * tf.reduce_sum(variables["branch_scales"], 0) / TOP_LEVEL
        return unit.numpy()

    def integer_weights(self, kernel: np.ndarray, variables: Variables) -> IntegerWeights:
        """The kernel as it will stand in the file: values p * b1 + q * b2."""
        columns = self.columns(np.asarray(kernel, np.float32))
        alpha, gamma1 = (tf.convert_to_tensor(variables[name]) for name in ("branch_scales", "pre_scale"))
        values = branch_ops.ternary_levels(columns, alpha, self._thresholds(variables), gamma1)
        scale = np.broadcast_to(self._unit(variables), (self.output_channels(kernel.shape),)).copy()
        return IntegerWeights(values.reshape(kernel.shape), scale, self.branches, 0)
