"""DBQScheme: the tfmot QuantizeScheme that decides which layer gets which quantizer."""

import fnmatch
from typing import Any

from keras_dbq import _checks, layer_roles, layout
from keras_dbq.compat import (
    QuantizeLayoutTransform,
    QuantizeRegistry,
    QuantizeScheme,
    keras,
)
from keras_dbq.layer_roles import FIXED, UNSUPPORTED, WEIGHTS
from keras_dbq.layers import QuantizeTensor
from keras_dbq.quantize_configs import (
    LayerQuantizeConfig,
    OutputQuantizeConfig,
    SeparableConv2DQuantizeConfig,
    kernel_config_class,
)
from keras_dbq.quantizers import ActivationQuantizer, LinearWeightQuantizer, TernaryBranchQuantizer

L = keras.layers
_CHOICES = ("branches", "bits", "skip", "forward", "thresholds", "per_channel", "temperature")


class DBQScheme(QuantizeScheme):
    """Differentiable branch quantization of weights, 8-bit activations.

    Args:
      branches: ternary branches of the weights, 1 or 2 (3 trains and exports as int8, but does not pack).
      forward: forward pass in training: "smooth", "hard" or "straight_through" (see `branch_ops.ternary_branch`).
      thresholds: "midpoint" of the levels, or "trained".
      per_channel: weight parameters per output channel (default) or per tensor.
      temperature: T of the smooth curve at the start, in units of 1 / std of a channel's weights.
      activation_bits: 8.
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

    Raises:
      ValueError, TypeError: a value outside its range, an unknown option in overrides.
    """

    def __init__(
        self,
        branches: int = 2,
        *,
        forward: str = "hard",
        thresholds: str = "midpoint",
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
    ):
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
        self.activation: dict[str, Any] = {
            "bits": activation_bits,
            "ema_decay": ema_decay,
            "ranges": activation_ranges,
            "symmetric": symmetric,
        }
        ActivationQuantizer(**self.activation)
        self.weight_bits = _checks.integer("weight_bits", weight_bits, 2, 8)
        self.weight_threshold = _checks.one_of("weight_threshold", weight_threshold, ("max", "trained"))
        self.ternary_first = _checks.boolean("ternary_first", ternary_first)
        self.ternary_last = _checks.boolean("ternary_last", ternary_last)
        self.ternary_depthwise = _checks.boolean("ternary_depthwise", ternary_depthwise)
        self.overrides = dict(overrides or {})
        self.on_unsupported = _checks.one_of("on_unsupported", on_unsupported, ("error", "skip"))
        self._check_overrides()
        self._configs: dict[str, LayerQuantizeConfig] = {}

    def _check_overrides(self) -> None:
        for key, choice in self.overrides.items():
            if not isinstance(key, str) and not (isinstance(key, type) and issubclass(key, L.Layer)):
                raise TypeError(f"overrides: expected a layer name, glob pattern or Keras layer type, got {key!r}")
            if not isinstance(choice, dict):
                raise TypeError(f"overrides[{key!r}]: expected a dict of options, got {choice!r}")
            for option in choice:
                if option not in _CHOICES:
                    raise ValueError(
                        f"overrides[{key!r}]: expected options among {', '.join(_CHOICES)}, got {option!r}"
                    )

    # tfmot's interface

    def get_layout_transformer(self) -> "DBQLayoutTransform":
        return DBQLayoutTransform(self)

    def get_quantize_registry(self) -> "DBQRegistry":
        return DBQRegistry(self._configs)

    # which layer gets what

    def choice(self, layer: keras.layers.Layer) -> dict[str, Any]:
        """The per-layer options that `overrides` names for this layer, by type, then pattern, then exact name."""
        found: dict[str, Any] = {}
        for key, options in self.overrides.items():
            if isinstance(key, type) and isinstance(layer, key):
                found.update(options)
        for key, options in self.overrides.items():
            if isinstance(key, str) and key != layer.name and fnmatch.fnmatchcase(layer.name, key):
                found.update(options)
        found.update(self.overrides.get(layer.name, {}))
        return found

    def check_names(self, model: keras.Model) -> None:
        """Raises ValueError for an override that matches no layer of the model (a typing error, most likely)."""
        for key in self.overrides:
            if isinstance(key, str):
                hit = any(fnmatch.fnmatchcase(layer.name, key) for layer in model.layers)
            else:
                hit = any(isinstance(layer, key) for layer in model.layers)
            if not hit:
                raise ValueError(
                    f"overrides: {key!r} matches no layer of model {model.name!r}; layers with weights: "
                    + ", ".join(layer.name for layer in model.layers if layer.weights)
                )

    def weight_quantizer(self, step: layout.Step) -> tuple[Any, str]:
        """The kernel's quantizer (None: stays float) of one kernel layer, and why, in a phrase."""
        layer, options = step.layer, self.choice(step.layer)
        depthwise = isinstance(layer, L.DepthwiseConv2D)
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

    def _linear_reason(self, step: layout.Step, depthwise: bool) -> str:
        if step.rewritten_from:
            return step.rewritten_from
        if depthwise and not self.ternary_depthwise:
            return "depthwise"
        if step.first and not self.ternary_first:
            return "first layer"
        if step.last and not self.ternary_last:
            return "last layer"
        if getattr(step.layer, "groups", 1) != 1:
            return "grouped convolution"
        return ""

    def output_quantizer(self, step: layout.Step) -> ActivationQuantizer:
        """The quantizer of a layer's output tensor."""
        if step.role == FIXED:
            return ActivationQuantizer(**self.activation, fixed=layer_roles.fixed_range(step.layer))
        return ActivationQuantizer(**self.activation, unsigned=step.unsigned)

    def get_config(self) -> dict[str, Any]:
        """All options, for logs and result files."""
        return {
            **self.ternary,
            "activation_bits": self.activation["bits"],
            "ema_decay": self.activation["ema_decay"],
            "activation_ranges": self.activation["ranges"],
            "symmetric": self.activation["symmetric"],
            "weight_bits": self.weight_bits,
            "weight_threshold": self.weight_threshold,
            "ternary_first": self.ternary_first,
            "ternary_last": self.ternary_last,
            "ternary_depthwise": self.ternary_depthwise,
            "overrides": {k if isinstance(k, str) else k.__name__: v for k, v in self.overrides.items()},
            "on_unsupported": self.on_unsupported,
        }


class DBQLayoutTransform(QuantizeLayoutTransform):
    """Rewrites the model and gives every layer its QuantizeConfig (see `layout`)."""

    def __init__(self, scheme: DBQScheme):
        self.scheme = scheme

    def apply(
        self, model: keras.Model, layer_quantize_map: dict[str, dict[str, Any]]
    ) -> tuple[keras.Model, dict[str, dict[str, Any]]]:
        """tfmot's interface: (model, map) -> (rewritten model, map of the layers that get a config)."""
        scheme = self.scheme
        scheme.check_names(model)
        wanted = {layer.name for layer in model.layers if layer.name in layer_quantize_map}
        given = {
            name: entry["quantize_config"]
            for name, entry in layer_quantize_map.items()
            if entry.get("quantize_config") is not None
        }
        rewritten = layout.rewrite(model, wanted, self._quantize_tensor)
        _split_given(rewritten, given)
        new_wanted = wanted | {new for new, (old, _) in rewritten.origin.items() if old in wanted}
        steps = layout.plan(rewritten.model, new_wanted)
        scheme._configs.clear()
        for step in steps:
            self._mark_rewritten(step, rewritten)
            config = self._config(step, step.layer.name in new_wanted, given.get(step.layer.name))
            if config is not None:
                scheme._configs[step.layer.name] = config
        return rewritten.model, {name: {"quantize_config": config} for name, config in scheme._configs.items()}

    def _quantize_tensor(self, name: str, step: layout.Step | None) -> keras.layers.Layer:
        quantizer = (
            ActivationQuantizer(**self.scheme.activation) if step is None else self.scheme.output_quantizer(step)
        )
        return QuantizeTensor(quantizer, name=layout.TENSOR_PREFIX + name, dtype="float32")

    def _mark_rewritten(self, step: layout.Step, rewritten: layout.Rewritten) -> None:
        origin = rewritten.origin.get(step.layer.name)
        if origin and "1x1 depthwise" in origin[1]:
            step.rewritten_from = origin[1]

    def _config(self, step: layout.Step, wanted: bool, given: Any) -> LayerQuantizeConfig | None:
        layer = step.layer
        if isinstance(layer, QuantizeTensor):
            return None
        if given is not None:
            return self._adapt_given(step, given)
        if not wanted:
            return OutputQuantizeConfig(output=self.scheme.output_quantizer(step)) if step.quantize_output else None
        if step.role == UNSUPPORTED:
            self._refuse(layer)
            if not step.quantize_output:
                return None
            return OutputQuantizeConfig(
                output=self.scheme.output_quantizer(step), note="no integer form: stays float, by choice"
            )
        output = self.scheme.output_quantizer(step) if step.quantize_output else None
        if step.role == WEIGHTS:
            quantizer, reason = self.scheme.weight_quantizer(step)
            config_class = kernel_config_class(layer)
            assert config_class is not None
            if quantizer is not None:
                return config_class(quantizer, output, note=reason)
            return OutputQuantizeConfig(output=output, note=reason)
        return OutputQuantizeConfig(output=output) if output is not None else None

    def _adapt_given(self, step: layout.Step, given: Any) -> Any:
        if not isinstance(given, LayerQuantizeConfig):
            return given  # another package's config: its own responsibility
        if given.output is not None and step.quantize_output:
            return given
        return given.with_output(self.scheme.output_quantizer(step) if step.quantize_output else None)

    def _refuse(self, layer: keras.layers.Layer) -> None:
        if self.scheme.on_unsupported == "error":
            raise ValueError(
                f"layer {layer.name!r} of type {type(layer).__name__} has no integer form; replace it, leave it out of "
                'the annotation, or use on_unsupported="skip" to keep it in float'
            )


def _split_given(rewritten: layout.Rewritten, given: dict[str, Any]) -> None:
    """Distributes a config given for a SeparableConv2D over the two layers that it became."""
    for name, config in list(given.items()):
        if isinstance(config, SeparableConv2DQuantizeConfig):
            weights = config.weights
            parts = {
                name + "_depthwise": ("depthwise_kernel", "depthwise_kernel"),
                name: ("kernel", "pointwise_kernel"),
            }
            del given[name]
            for part, (attribute, key) in parts.items():
                layer = rewritten.model.get_layer(part)
                config_class = kernel_config_class(layer)
                assert config_class is not None
                given[part] = config_class({attribute: weights[key]}, config.output if part == name else None)


class DBQRegistry(QuantizeRegistry):
    """Looks up what the layout transform planned; tfmot asks by layer."""

    def __init__(self, configs: dict[str, LayerQuantizeConfig]):
        self._configs = configs

    def supports(self, layer: keras.layers.Layer) -> bool:
        """Whether the plan has a config for this layer."""
        return layer.name in self._configs

    def get_quantize_config(self, layer: keras.layers.Layer) -> LayerQuantizeConfig:
        """The planned config.

        Raises:
          ValueError: the layer is not in the plan.
        """
        if layer.name not in self._configs:
            raise ValueError(f"layer {layer.name!r} of type {type(layer).__name__} is not in the quantization plan")
        return self._configs[layer.name]
