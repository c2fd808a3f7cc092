"""Quantizers: the variables of one quantized tensor, and how they act on it in training and afterwards.

Each is a tfmot `Quantizer`: `build` creates variables on the wrapper, `__call__` quantizes. Values come later, from
the float weights or from calibration pictures (`keras_dbq.initialize`), because `build` sees only a shape.
"""

import weakref
from typing import Any, NamedTuple

import numpy as np

from keras_dbq import _checks, activation_ops, branch_ops
from keras_dbq.compat import Quantizer, keras, register, tf

Variables = dict[str, tf.Variable]


class IntegerWeights(NamedTuple):
    """A weight tensor as it will stand in the file: weight = values * scale.

    values: int8, in the Keras variable's own shape.
    scale: float32 [M], per output channel (depthwise (h, w, C, D): C * D channels, D fastest).
    branches: ternary branches that the quantizer used; 0 for a linear grid.
    bits: 8, or fewer, of a linear grid; 0 for ternary branches.
    """

    values: np.ndarray
    scale: np.ndarray
    branches: int
    bits: int


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


def _adopt_inner_weights(wrapper: keras.layers.Layer) -> None:
    """Lists the inner layer's variables before the quantizer's, as tfmot does for a layer that is built already.

    When a model is loaded the inner layer is built later, and without this the order of the weights, and so what a
    file or the optimizer's saved state means, would differ.
    """
    known = {id(v) for v in wrapper._trainable_weights}
    inner = getattr(wrapper, "layer", None)
    for variable in inner.trainable_weights if inner is not None else []:
        if id(variable) not in known:
            wrapper._trainable_weights.append(variable)


class _WeightQuantizer(Quantizer):
    """Shared by weight quantizers: a kernel seen as columns [K, M], per channel or (M = 1) per tensor."""

    per_channel: bool
    depthwise: bool
    # While True the tensor passes through unchanged (calibration on the float weights).
    bypass = False
    # While True the forward pass of training is used also with training=False (training with fixed statistics).
    training_forward = False
    _wrapper: Any = None  # weak reference to the wrapper that owns the variables
    _unfrozen: Any = None  # lists of weights before anything was frozen
    matched_bias: Any = None  # the layer's bias before and after `calibration.match_outputs`

    def _channels(self, shape: Any) -> int:
        return self._output_channels(shape) if self.per_channel else 1

    def _output_channels(self, shape: Any) -> int:
        return int(shape[-1] * shape[-2]) if self.depthwise else int(shape[-1])

    def _reconstruction_error(self, kernel: np.ndarray, variables: Variables) -> float:
        """Relative squared error ||w - w_q||^2 / ||w||^2; 0 for a kernel of zeros."""
        quantized = self(tf.constant(kernel, tf.float32), False, variables).numpy()
        power = float(np.sum(np.square(kernel, dtype=np.float64)))
        return float(np.sum(np.square(kernel - quantized, dtype=np.float64)) / power) if power else 0.0

    def apply_freeze(self, wrapper: keras.layers.Layer, kernel: tf.Variable, variables: Variables) -> None:
        """Moves frozen variables from the trainable to the non-trainable weights of the wrapper and its layer.

        Works from the lists as they were before any freezing, so that the order of weights, and with it saved files,
        depends on what is frozen and not on when it was. (`layer.trainable = False` cannot be used: tfmot's wrapper
        keeps a list of its own.)
        """
        lists = [
            (wrapper._trainable_weights, wrapper._non_trainable_weights),
            (wrapper.layer._trainable_weights, wrapper.layer._non_trainable_weights),
        ]
        if self._unfrozen is None:
            self._unfrozen = [(list(trainable), list(fixed)) for trainable, fixed in lists]
        frozen = {id(kernel), *(id(v) for v in self._unfrozen[1][0])} if "weights" in self.frozen else set()
        if "scales" in self.frozen:
            frozen |= {id(v) for v in variables.values()}
        # A frozen bias is listed by the inner layer alone (h5 takes no name twice), the kernel by the wrapper alone.
        owned = (
            {id(kernel), *(id(v) for v in variables.values())},
            {id(v) for v in self._unfrozen[1][0]} - {id(kernel)},
        )
        for (trainable, fixed), (was_trainable, was_fixed), own in zip(lists, self._unfrozen, owned, strict=True):
            moved = {id(v): v for v in was_trainable if id(v) in frozen}
            trainable[:] = [v for v in was_trainable if id(v) not in frozen]
            fixed[:] = was_fixed + [v for key, v in moved.items() if key in own]
            for variable in moved.values():
                variable._trainable = False  # loading a .keras file sorts the variables again, by this

    def _refreeze(self, kernel: Any, variables: Variables) -> None:
        """After loading: what the config says is frozen is frozen at the first call, when all variables exist."""
        wrapper = self._wrapper() if self._wrapper is not None else None
        if self.frozen and self._unfrozen is None and wrapper is not None and isinstance(kernel, tf.Variable):
            self.apply_freeze(wrapper, kernel, variables)

    def columns(self, kernel: Any) -> Any:
        """Kernel -> [K, M]; works on numpy arrays and tensors."""
        reshape = np.reshape if isinstance(kernel, np.ndarray) else tf.reshape
        return reshape(kernel, [-1, self._channels(kernel.shape)])


@register
class TernaryBranchQuantizer(_WeightQuantizer):
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

    def __init__(
        self,
        branches: int = 2,
        forward: str = "hard",
        thresholds: str = "midpoint",
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
        self.frozen = tuple(frozen)

    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> Variables:
        self._wrapper = weakref.ref(layer)
        _adopt_inner_weights(layer)
        channels = self._channels(tensor_shape)
        regions = 3**self.branches - 1

        def add(suffix: str, shape: Any, value: Any, trainable: bool, constraint: Any = None) -> tf.Variable:
            return layer.add_weight(
                name=f"{name}_{suffix}",
                shape=shape,
                dtype=tf.float32,
                initializer=keras.initializers.Constant(value),
                trainable=trainable,
                constraint=constraint,
                experimental_autocast=False,
                aggregation=tf.VariableAggregation.MEAN,
            )

        # alpha = 3**-j / 1.5 until `initialize` fits it: a descending set, so that the levels are distinct.
        start = np.repeat(3.0 ** -np.arange(self.branches)[:, None], channels, 1)
        variables = {
            "branch_scales": add("branch_scales", start.shape, start, True, BranchScaleConstraint()),
            "pre_scale": add("pre_scale", (channels,), 1.0, self.train_pre_scale),
            "post_scale": add("post_scale", (channels,), 1.0, self.train_post_scale),
            "temperature": add("temperature", (), self.temperature, False),
        }
        if self.thresholds == "trained":
            spread = np.repeat(np.linspace(-1, 1, regions)[:, None], channels, 1)
            variables["thresholds"] = add("thresholds", spread.shape, spread, True, AscendingConstraint())
        return variables

    def __call__(self, inputs: Any, training: Any, weights: Variables, **kwargs: Any) -> Any:
        if self.bypass:
            return inputs
        self._refreeze(inputs, weights)
        columns = tf.cast(self.columns(inputs), tf.float32)
        quantized = branch_ops.ternary_branch(
            columns,
            tf.convert_to_tensor(weights["branch_scales"]),
            self._thresholds(weights),
            tf.convert_to_tensor(weights["pre_scale"]),
            tf.convert_to_tensor(weights["post_scale"]),
            tf.convert_to_tensor(weights["temperature"]),
            forward=self.forward if training or self.training_forward else "hard",
        )
        return tf.cast(tf.reshape(quantized, tf.shape(inputs)), inputs.dtype)

    def _thresholds(self, variables: Variables) -> tf.Tensor:
        if self.thresholds == "trained":
            return tf.convert_to_tensor(variables["thresholds"])
        return branch_ops.midpoint_thresholds(tf.convert_to_tensor(variables["branch_scales"]))

    def initialize(self, kernel: np.ndarray, variables: Variables) -> float:
        """Fits all parameters to the float kernel; returns the relative squared error ||w - w_q||^2 / ||w||^2."""
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
        return self._reconstruction_error(kernel, variables)

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
        unit = variables["post_scale"] * tf.reduce_sum(variables["branch_scales"], 0) / branch_ops.LEVEL_SUM
        return unit.numpy()

    def integer_weights(self, kernel: np.ndarray, variables: Variables) -> IntegerWeights:
        """The kernel as it will stand in the file: values p * b1 + q * b2."""
        ternary = self.ternary_weights(kernel, variables)
        codes = ternary.codes.reshape(self.branches, -1, ternary.integer_scales.shape[1]).astype(np.int32)
        values = (codes * ternary.integer_scales[:, None, :]).sum(0).reshape(kernel.shape)
        channels = self._output_channels(kernel.shape)
        scale = np.broadcast_to(self._unit(variables), (channels,)).copy()
        return IntegerWeights(values.astype(np.int8), scale, self.branches, 0)

    def get_config(self) -> dict[str, Any]:
        return {
            "branches": self.branches,
            "forward": self.forward,
            "thresholds": self.thresholds,
            "per_channel": self.per_channel,
            "depthwise": self.depthwise,
            "temperature": self.temperature,
            "train_pre_scale": self.train_pre_scale,
            "train_post_scale": self.train_post_scale,
            "frozen": list(self.frozen),
        }


def _round_to_grid(w: tf.Tensor, scale: tf.Tensor, top: int) -> tf.Tensor:
    """n * scale with n = clip(round(w / scale), -top, top); dy/dw = 1 (the range always holds w)."""

    @tf.custom_gradient
    def quantize(w: Any) -> Any:
        return tf.clip_by_value(tf.round(w / scale), -top, top) * scale, lambda dy: dy

    return quantize(w)


@register
class LinearWeightQuantizer(_WeightQuantizer):
    """Symmetric linear weights, n * scale with |n| <= 2**(bits-1) - 1 and scale = max|w| / (2**(bits-1) - 1).

    The range follows the weights; trained thresholds will multiply it by a factor per channel.

    Args:
      bits: 2 to 8.
      per_channel: one range per output channel, or one per tensor.
      depthwise: the kernel is (h, w, C, multiplier), its channels are the last two axes.
      frozen: "weights", or nothing (set by `keras_dbq.freeze`).
    """

    def __init__(self, bits: int = 8, per_channel: bool = True, depthwise: bool = False, frozen: tuple[str, ...] = ()):
        self.bits = _checks.integer("bits", bits, 2, 8)
        self.per_channel = _checks.boolean("per_channel", per_channel)
        self.depthwise = _checks.boolean("depthwise", depthwise)
        self.frozen = tuple(frozen)

    @property
    def top(self) -> int:
        """The largest integer level."""
        return 2 ** (self.bits - 1) - 1

    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> Variables:
        self._wrapper = weakref.ref(layer)
        _adopt_inner_weights(layer)
        return {}

    def _scale(self, columns: tf.Tensor) -> tf.Tensor:
        largest = tf.reduce_max(tf.abs(columns), 0)
        return tf.stop_gradient(tf.where(largest > 0, largest, 1.0) / self.top)

    def __call__(self, inputs: Any, training: Any, weights: Variables, **kwargs: Any) -> Any:
        if self.bypass:
            return inputs
        self._refreeze(inputs, weights)
        columns = tf.cast(self.columns(inputs), tf.float32)
        quantized = _round_to_grid(columns, self._scale(columns), self.top)
        return tf.cast(tf.reshape(quantized, tf.shape(inputs)), inputs.dtype)

    def initialize(self, kernel: np.ndarray, variables: Variables) -> float:
        """Nothing to fit; returns the relative squared error ||w - w_q||^2 / ||w||^2."""
        return self._reconstruction_error(kernel, variables)

    def integer_weights(self, kernel: np.ndarray, variables: Variables) -> IntegerWeights:
        """The kernel as it will stand in the file."""
        columns = tf.constant(self.columns(np.asarray(kernel, np.float32)))
        scale = self._scale(columns)
        values = tf.clip_by_value(tf.round(columns / scale), -self.top, self.top)
        channels = self._output_channels(kernel.shape)
        return IntegerWeights(
            values.numpy().reshape(kernel.shape).astype(np.int8),
            np.broadcast_to(scale.numpy(), (channels,)).copy(),
            0,
            self.bits,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "bits": self.bits,
            "per_channel": self.per_channel,
            "depthwise": self.depthwise,
            "frozen": list(self.frozen),
        }


@register
class ActivationQuantizer(Quantizer):
    """8-bit activations on the range [low, high], calibrated, then moved along in training.

    low and high are the exponential moving averages of each batch's minimum and maximum (training=True only);
    `fixed` ranges (softmax, sigmoid) never move.

    Args:
      bits: 8.
      unsigned: the tensor is never negative (after a ReLU): low stays 0 and is not measured.
      ema_decay: weight of the past in the moving average, in [0, 1); 1 keeps the calibrated range.
      fixed: (low, high), or None.
      frozen: "ranges", or nothing (set by `keras_dbq.freeze`).
    """

    # While set, the tensor passes through unchanged and its range widens to what it sees (calibration).
    observing = False
    # While True the tensor passes through unchanged.
    bypass = False

    def __init__(
        self,
        bits: int = 8,
        unsigned: bool = False,
        ema_decay: float = 0.99,
        fixed: tuple[float, float] | None = None,
        frozen: tuple[str, ...] = (),
    ):
        self.bits = _checks.integer("activation bits", bits, 8, 8)
        self.unsigned = _checks.boolean("unsigned", unsigned)
        self.ema_decay = _checks.number("ema_decay", ema_decay, 0.0, 1.0)
        self.fixed = None if fixed is None else (float(fixed[0]), float(fixed[1]))
        self.frozen = tuple(frozen)

    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> Variables:
        _adopt_inner_weights(layer)

        def add(suffix: str, value: float) -> tf.Variable:
            return layer.add_weight(
                name=f"{name}_{suffix}",
                shape=(),
                dtype=tf.float32,
                initializer=keras.initializers.Constant(value),
                trainable=False,
                experimental_autocast=False,
                aggregation=tf.VariableAggregation.MEAN,
            )

        low, high = self.fixed or ((0.0 if self.unsigned else -6.0), 6.0)
        return {"low": add("low", low), "high": add("high", high)}

    def __call__(self, inputs: Any, training: Any, weights: Variables, **kwargs: Any) -> Any:
        if self.bypass:
            return inputs
        low, high = weights["low"], weights["high"]
        if self.observing:
            self._observe(inputs, low, high)
            return inputs
        if training and self.fixed is None and "ranges" not in self.frozen and self.ema_decay < 1:
            self._follow(inputs, low, high)
        x = tf.cast(inputs, tf.float32)
        if self.unsigned:
            y = activation_ops.fake_quant_unsigned(x, tf.convert_to_tensor(high), bits=self.bits)
        else:
            y = activation_ops.fake_quant(x, tf.convert_to_tensor(low), tf.convert_to_tensor(high), bits=self.bits)
        return tf.cast(y, inputs.dtype)

    def _extremes(self, inputs: Any) -> tuple[tf.Tensor | None, tf.Tensor]:
        """Batch minimum (None when unsigned) and maximum; the range always holds zero and is never empty."""
        inputs = tf.stop_gradient(tf.cast(inputs, tf.float32))
        high = tf.maximum(tf.reduce_max(inputs), 1e-5)
        return (None if self.unsigned else tf.minimum(tf.reduce_min(inputs), 0.0)), high

    def _observe(self, inputs: Any, low: Any, high: Any) -> None:
        if self.fixed is not None:
            return
        batch_low, batch_high = self._extremes(inputs)
        high.assign(tf.maximum(high, batch_high))
        if batch_low is not None:
            low.assign(tf.minimum(low, batch_low))

    def _follow(self, inputs: Any, low: Any, high: Any) -> None:
        batch_low, batch_high = self._extremes(inputs)
        high.assign_sub((1 - self.ema_decay) * (high - batch_high))
        if batch_low is not None:
            low.assign_sub((1 - self.ema_decay) * (low - batch_low))

    def reset(self, variables: Variables) -> None:
        """Empties the range before calibration."""
        if self.fixed is None:
            variables["low"].assign(0.0)
            variables["high"].assign(1e-5)

    def grid(self, variables: Variables) -> tuple[np.float32, int]:
        """Scale and int8 zero point of the current range."""
        return activation_ops.nudged_grid(variables["low"].numpy(), variables["high"].numpy(), self.bits)

    def get_config(self) -> dict[str, Any]:
        return {
            "bits": self.bits,
            "unsigned": self.unsigned,
            "ema_decay": self.ema_decay,
            "fixed": None if self.fixed is None else list(self.fixed),
            "frozen": list(self.frozen),
        }
