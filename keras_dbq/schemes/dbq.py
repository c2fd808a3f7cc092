"""DBQScheme: ternary branches where they pay, 8 bit elsewhere."""

from typing import Any

from keras_dbq import _checks
from keras_dbq.network import kernels
from keras_dbq.quantizers import LinearWeightQuantizer, TernaryBranchQuantizer
from keras_dbq.schemes.base import INITS, LayerwiseScheme
from keras_dbq.schemes.plan import Step


class DBQScheme(LayerwiseScheme):
    """Differentiable branch quantization of weights, activations at 8 bits or fewer.

    Args:
      branches: ternary branches of the weights, 1 or 2 (3 trains and exports as int8, but does not pack).
      forward: forward pass in training: "smooth", "hard" or "straight_through" (see `branch_ops.ternary_branch`).
      thresholds: "trained" (they start at the midpoints of the levels; straight-through leaves them there), or
        "midpoint", which follow the branch scales.
      per_channel: weight parameters per output channel (default) or per tensor.
      temperature: T of the smooth curve at the start, in units of 1 / std of a channel's weights.
      activation_bits: 4 to 8; the model's inputs and outputs keep 8.
      activation_ranges: "moving_average" of each batch's extremes in training, or "trained" thresholds.
      symmetric: activations with zero point 0 (or, where never negative, from 0 on).
      weight_bits: bits of the layers with linear weights, 2 to 8.
      weight_threshold: of the layers with linear weights: "max" of each channel, or "trained".
      ternary_first, ternary_last, ternary_depthwise: whether the first and last kernel layers and the depthwise layers
        are ternary as well; by default they have `weight_bits` per channel.
      overrides: per-layer choices {name, glob pattern or layer type: {option: value}}. An exact name wins over a
        pattern, a pattern over a type, a later pattern over an earlier one. Options: branches (0: linear weights),
        bits (linear weights of so many bits), skip (True: the weights stay float), forward, thresholds, per_channel,
        temperature.
      on_unsupported: "error" or "skip", for layers that have no integer form.
      ema_decay: of the activation ranges' moving averages in training, in [0, 1]; 1 keeps the calibrated ranges.
      train_pre_scale, train_post_scale: train gamma1, gamma2 as well.
      init: "least_error": weights near to the float ones; "two_step": those that give the float network's outputs on
        the calibration data, layer by layer (`solve_ternary`; minutes, better by far). None: "two_step" where
        `quantize_model` is given at least 256 pictures, else "least_error".

    Raises:
      ValueError, TypeError: a value outside its range, an unknown option in overrides.
    """

    choices: tuple[str, ...] = ("branches", "bits", "skip", "forward", "thresholds", "per_channel", "temperature")

    def __init__(
        self,
        branches: int = 2,
        *,
        forward: str = "hard",
        thresholds: str = "trained",
        per_channel: bool = True,
        temperature: float = 8.0,
        activation_bits: int = 8,
        activation_ranges: str = "moving_average",
        symmetric: bool = False,
        weight_bits: int = 8,
        weight_threshold: str = "max",
        ternary_first: bool = False,
        ternary_last: bool = False,
        ternary_depthwise: bool = False,
        overrides: dict[str | type, dict[str, Any]] | None = None,
        on_unsupported: str = "error",
        ema_decay: float = 0.99,
        train_pre_scale: bool = False,
        train_post_scale: bool = False,
        init: str | None = None,
    ):
        self.init = init if init is None else _checks.one_of("init", init, INITS)
        self.ternary: dict[str, Any] = {
            "branches": branches,
            "forward": forward,
            "thresholds": thresholds,
            "per_channel": per_channel,
            "temperature": temperature,
            "train_pre_scale": train_pre_scale,
            "train_post_scale": train_post_scale,
        }
        TernaryBranchQuantizer(**self.ternary)  # checks the values once, here
        activation: dict[str, Any] = {
            "bits": activation_bits,
            "ema_decay": ema_decay,
            "ranges": activation_ranges,
            "symmetric": symmetric,
        }
        super().__init__(activation, overrides, on_unsupported)
        self.weight_bits = _checks.integer("weight_bits", weight_bits, 2, 8)
        self.weight_threshold = _checks.one_of("weight_threshold", weight_threshold, ("max", "trained"))
        self.ternary_first = _checks.boolean("ternary_first", ternary_first)
        self.ternary_last = _checks.boolean("ternary_last", ternary_last)
        self.ternary_depthwise = _checks.boolean("ternary_depthwise", ternary_depthwise)

    def weight_quantizer(self, step: Step) -> tuple[Any, str]:
        """The kernel's quantizer (None: stays float) of one kernel layer, and why, in a phrase."""
        layer, options = step.layer, self.choice(step.layer)
        depthwise = kernels.is_depthwise(layer)
        if options.get("skip"):
            return None, "skipped by choice: weights stay float"
        branches = options.get("branches")
        linear = {
            "bits": options.get("bits", self.weight_bits),
            "per_channel": options.get("per_channel", True),
            "depthwise": depthwise,
            "threshold": self.weight_threshold,
        }
        if branches is None:
            reason = self._linear_reason(step, depthwise) or ("bits by choice" if "bits" in options else "")
            if reason:
                return LinearWeightQuantizer(**linear), reason
        elif branches == 0:
            return LinearWeightQuantizer(**linear), "linear by choice"
        ternary = {**self.ternary, "depthwise": depthwise}
        ternary.update({k: v for k, v in options.items() if k not in ("skip", "bits")})
        return TernaryBranchQuantizer(**ternary), "ternary"

    def _linear_reason(self, step: Step, depthwise: bool) -> str:
        if step.affine:
            return step.affine
        if depthwise and not self.ternary_depthwise:
            return "depthwise"
        if step.first and not self.ternary_first:
            return "first layer"
        if step.last and not self.ternary_last:
            return "last layer"
        if getattr(step.layer, "groups", 1) != 1:
            return "grouped convolution"
        return ""

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            **self.ternary,
            "ema_decay": self.activation["ema_decay"],
            "activation_ranges": self.activation["ranges"],
            "weight_bits": self.weight_bits,
            "weight_threshold": self.weight_threshold,
            "ternary_first": self.ternary_first,
            "ternary_last": self.ternary_last,
            "ternary_depthwise": self.ternary_depthwise,
            "init": self.init,
        }
