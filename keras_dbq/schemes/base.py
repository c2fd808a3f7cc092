"""What every QuantizeScheme of ours does with a network: plan it, rewrite it, give each layer its config."""

import fnmatch
from dataclasses import dataclass
from typing import Any

from keras_dbq import _checks, limits
from keras_dbq.compat import (
    QuantizeLayoutTransform,
    QuantizeRegistry,
    QuantizeScheme,
    keras,
)
from keras_dbq.network import graph, kernels, obstacles, roles
from keras_dbq.network.obstacles import Obstacle, Obstacles
from keras_dbq.network.roles import FIXED, UNSUPPORTED, WEIGHTS
from keras_dbq.prepare import folding
from keras_dbq.quantizers import ActivationQuantizer
from keras_dbq.schemes.plan import Plan, Step, plan
from keras_dbq.schemes.rewrite import TENSOR_PREFIX, Rewritten, insert_quantizers, rewrite
from keras_dbq.wrapping import naming
from keras_dbq.wrapping.layers import QuantizeTensor
from keras_dbq.wrapping.quantize_configs import (
    LayerQuantizeConfig,
    OutputQuantizeConfig,
    SeparableConv2DQuantizeConfig,
    kernel_config_class,
)

L = keras.layers
INITS = "least_error", "two_step"  # how weights start


class LayerwiseScheme(QuantizeScheme):
    """What all schemes share: per-layer choices, output quantizers, layout transform and registry.

    A scheme says with `weight_quantizer` which kernel gets which quantizer; everything else follows from the network.

    Args:
      activation: arguments of every ActivationQuantizer.
      overrides: {name, glob pattern or layer type: {option: value}}.
      on_unsupported: "error" or "skip", for layers that have no integer form.
      fold: fold batch norms into the float layers before anything is quantized.
    """

    # Options that `overrides` may name.
    choices: tuple[str, ...] = ()

    def __init__(
        self,
        activation: dict[str, Any],
        overrides: dict[str | type, dict[str, Any]] | None,
        on_unsupported: str,
        fold: bool = False,
    ):
        self.activation = activation
        ActivationQuantizer(**activation)  # checks the values once, here
        self.overrides = dict(overrides or {})
        self.on_unsupported = _checks.one_of("on_unsupported", on_unsupported, ("error", "skip"))
        self.fold = fold
        self._check_overrides()
        self._configs: dict[str, LayerQuantizeConfig] = {}

    def _check_overrides(self) -> None:
        for key, choice in self.overrides.items():
            if not isinstance(key, str) and not (isinstance(key, type) and issubclass(key, L.Layer)):
                raise TypeError(f"overrides: expected a layer name, glob pattern or Keras layer type, got {key!r}")
            if not isinstance(choice, dict):
                raise TypeError(f"overrides[{key!r}]: expected a dict of options, got {choice!r}")
            for option in choice:
                if option not in self.choices:
                    raise ValueError(
                        f"overrides[{key!r}]: expected options among {', '.join(self.choices)}, got {option!r}"
                    )

    # tfmot's interface

    def get_layout_transformer(self) -> "LayoutTransform":
        return LayoutTransform(self)

    def get_quantize_registry(self) -> "PlannedRegistry":
        return PlannedRegistry(self._configs)

    # which layer gets what

    def weight_quantizer(self, step: Step) -> tuple[Any, str]:
        """The kernel's quantizer (None: stays float) of one kernel layer, and why, in a phrase."""
        raise NotImplementedError

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

    def output_quantizer(self, step: Step) -> ActivationQuantizer:
        """The quantizer of a layer's output tensor."""
        if step.meaning.role == FIXED:
            return ActivationQuantizer(fixed=step.meaning.range)
        # What no kernel layer reads, the network's answer, has 8 bits in any case, and so has its input.
        activation = {**self.activation, "bits": 8} if step.last else self.activation
        return ActivationQuantizer(**activation, unsigned=step.unsigned)

    def input_quantizer(self) -> ActivationQuantizer:
        """The quantizer of a model input: 8 bits, because nothing in the file could clip its codes to fewer."""
        return ActivationQuantizer(**{**self.activation, "bits": 8})

    def behind(self, step: Step) -> keras.layers.Layer | None:
        """A further layer behind one whose output is quantized; None for most."""
        return None

    def obstacles(self, model: keras.Model, plan: Plan) -> list[Obstacle]:
        """What stands in the way of this scheme alone; `model` is what was planned."""
        return []

    def get_config(self) -> dict[str, Any]:
        """All options, for logs and result files."""
        return {
            "activation_bits": self.activation["bits"],
            "symmetric": self.activation["symmetric"],
            "overrides": {k if isinstance(k, str) else k.__name__: v for k, v in self.overrides.items()},
            "on_unsupported": self.on_unsupported,
        }


class LayoutTransform(QuantizeLayoutTransform):
    """Rewrites the model and gives every layer its QuantizeConfig (see `schemes.rewrite`, `schemes.plan`)."""

    def __init__(self, scheme: LayerwiseScheme):
        self.scheme = scheme

    def apply(
        self, model: keras.Model, layer_quantize_map: dict[str, dict[str, Any]]
    ) -> tuple[keras.Model, dict[str, dict[str, Any]]]:
        """tfmot's interface: (model, map) -> (rewritten model, map of the layers that get a config).

        Raises:
          ValueError: layers without an integer form, all of them, unless the scheme skips those; overrides that match
            no layer.
        """
        names, layout = graph.output_names(model), self.lay_out(model, layer_quantize_map)
        refused = layout.obstacles if self.scheme.on_unsupported == "error" else layout.obstacles.fatal
        if refused:
            raise ValueError(refused.sentence())
        configs = self.scheme._configs
        configs.clear()
        for step in layout.plan.steps:
            origin = layout.rewritten.origin.get(step.layer.name)
            step.affine = origin.note if origin and origin.affine else ""
            config = self._config(step, step.layer.name in layout.quantized, layout.given.get(step.layer.name))
            if config is not None:
                configs[step.layer.name] = config
        result = insert_quantizers(layout.rewritten.model, layout.plan, self._quantize_tensor, self.scheme.behind)
        result = naming.name_outputs(result, names)
        return result, {name: {"quantize_config": config} for name, config in configs.items()}

    def lay_out(self, model: keras.Model, layer_quantize_map: dict[str, dict[str, Any]]) -> "Layout":
        """What `apply` does with a model, up to the refusal.

        Raises:
          ValueError: overrides that match no layer.
        """
        self.scheme.check_names(model)
        if self.scheme.fold:
            model = folding.fold_batch_norms(model)
        wanted = {layer.name for layer in model.layers if layer.name in layer_quantize_map}
        rewritten = rewrite(model, wanted)
        given = _given(layer_quantize_map, rewritten)
        wanted |= {new for new, origin in rewritten.origin.items() if origin.layer in wanted}
        planned = plan(rewritten.model, wanted)
        own = [_of_user(o, rewritten) for o in self.scheme.obstacles(rewritten.model, planned) if o.layer in wanted]
        sizes = [*obstacles.of_sizes(model), *own]
        found = _obstacles([s for s in planned.steps if s.layer.name in wanted - set(given)], rewritten)
        return Layout(rewritten, planned, wanted, given, Obstacles([*sizes, *found]))

    def _quantize_tensor(self, name: str, step: Step | None) -> keras.layers.Layer:
        quantizer = self.scheme.input_quantizer() if step is None else self.scheme.output_quantizer(step)
        return QuantizeTensor(quantizer, name=TENSOR_PREFIX + name, dtype="float32")

    def _config(self, step: Step, wanted: bool, given: Any) -> LayerQuantizeConfig | None:
        if not roles.takes_wrapper(step.layer):
            return None  # a QuantizeTensor stands behind it
        output = self.scheme.output_quantizer(step) if step.quantize_output else None
        if given is not None:
            return _adapted(given, output)
        role = step.meaning.role if wanted else ""
        if role == WEIGHTS:
            quantizer, reason = self.scheme.weight_quantizer(step)
            config_class = kernel_config_class(step.layer)
            assert config_class is not None
            if quantizer is not None:
                return config_class(quantizer, output, note=reason)
            return OutputQuantizeConfig(output=output, note=reason)
        note = "no integer form: stays float, by choice" if role == UNSUPPORTED else ""
        return None if output is None else OutputQuantizeConfig(output=output, note=note)


@dataclass(frozen=True)
class Layout:
    """A network rewritten and planned, and what stands in the way.

    quantized: names of the layers that are to be quantized.  given: {name: the config that the user gave}.
    """

    rewritten: Rewritten
    plan: Plan
    quantized: set[str]
    given: dict[str, Any]
    obstacles: Obstacles


def _obstacles(steps: list[Step], rewritten: Rewritten) -> list[Obstacle]:
    """The layers that cannot be exported, by their names in the user's model."""
    found = []
    for step in steps:
        why, advice = _obstacle(step)
        if why:
            origin = rewritten.origin.get(step.layer.name)
            name, kind = (origin.layer, origin.type) if origin else (step.layer.name, type(step.layer).__name__)
            found.append(Obstacle(name, kind, why, advice, step.meaning.fatal))
    return found


def _of_user(obstacle: Obstacle, rewritten: Rewritten) -> Obstacle:
    """The obstacle by the layer's name in the user's model."""
    origin = rewritten.origin.get(obstacle.layer)
    return obstacle if origin is None else obstacle._replace(layer=origin.layer, type=origin.type)


def _obstacle(step: Step) -> tuple[str, str]:
    """(why a layer cannot be an integer operator, what to do); empty where it can."""
    if step.meaning.role != WEIGHTS:
        return step.meaning.why, step.meaning.advice
    shape = getattr(step.layer, kernels.attribute(step.layer)).shape
    length = int(shape.num_elements()) // kernels.channels(step.layer, shape)
    if limits.bias_room(length) >= limits.LEAST_ROOM:
        return "", ""
    return f"a dot product of {length} weights does not fit int32", "split the layer"


def _adapted(given: Any, output: ActivationQuantizer | None) -> Any:
    """A config that the user gave, with an output quantizer exactly where the plan has one."""
    if not isinstance(given, LayerQuantizeConfig):
        return given  # another package's config: its own responsibility
    return given if given.output is not None and output is not None else given.with_output(output)


def _given(layer_quantize_map: dict[str, dict[str, Any]], rewritten: Rewritten) -> dict[str, Any]:
    """{layer of the rewritten model: the config that the user gave for it}."""
    entries = {name: entry.get("quantize_config") for name, entry in layer_quantize_map.items()}
    given = {name: config for name, config in entries.items() if config is not None}
    for name, config in list(given.items()):
        if isinstance(config, SeparableConv2DQuantizeConfig):
            given |= _split(name, config, rewritten.model)
    return given


def _split(name: str, config: SeparableConv2DQuantizeConfig, model: keras.Model) -> dict[str, Any]:
    """A config given for a SeparableConv2D, distributed over the two layers that it became."""
    parts = {name + "_depthwise": ("depthwise_kernel", "depthwise_kernel"), name: ("kernel", "pointwise_kernel")}
    found = {}
    for part, (attribute, key) in parts.items():
        config_class = kernel_config_class(model.get_layer(part))
        assert config_class is not None
        found[part] = config_class({attribute: config.weights[key]}, config.output if part == name else None)
    return found


class PlannedRegistry(QuantizeRegistry):
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
