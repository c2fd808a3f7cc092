"""QuantizeConfigs: which tensors of one Keras layer get which quantizer.

One class says it all: weight attributes by name, and at most one output quantizer. The named subclasses exist so that
`quantize_annotate_layer(layer, config)` reads well and checks that the layer fits.
"""

from typing import Any

from keras_dbq.compat import QuantizeConfig, Quantizer, keras, register
from keras_dbq.quantizers import LinearWeightQuantizer, TernaryBranchQuantizer, deserialize, serialize
from keras_dbq.wrapping.placed import PlacedQuantizer
from keras_dbq.wrapping.trainable import follow_keras


@register
class LayerQuantizeConfig(QuantizeConfig):
    """Quantizers of one layer.

    Args:
      weights: {attribute of the layer: quantizer}, for instance {"kernel": TernaryBranchQuantizer(branches=2)}.
      output: quantizer of the layer's output tensor, or None where a later layer of a fused chain
        (convolution, batch norm, ReLU) carries it.
      note: one phrase for `explain` and the export report.
    """

    def __init__(
        self,
        weights: dict[str, Quantizer] | None = None,
        output: Quantizer | None = None,
        note: str = "",
    ):
        given = self.default_weights() if weights is None else self._by_attribute(weights)
        self.weights = {name: deserialize(quantizer) for name, quantizer in given.items()}
        self.output = deserialize(output)
        self.note = note

    def default_weights(self) -> dict[str, Quantizer]:
        """The quantizers where `weights` is None."""
        return {}

    def _by_attribute(self, weights: Any) -> dict[str, Quantizer]:
        return weights

    def with_output(self, output: Quantizer | None) -> "LayerQuantizeConfig":
        """The same config with another output quantizer (the layout transform decides where outputs are quantized)."""
        config = self.get_config()
        config["output"] = serialize(output)
        return type(self).from_config(config)

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Quantizer]]:
        return [(getattr(layer, name), PlacedQuantizer(quantizer)) for name, quantizer in self.weights.items()]

    def set_quantize_weights(self, layer: Any, quantize_weights: Any) -> None:
        for name, value in zip(self.weights, quantize_weights, strict=True):
            setattr(layer, name, value)

    def get_activations_and_quantizers(self, layer: Any) -> list[Any]:
        return []  # an activation function inside a layer is covered by the output quantizer

    def set_quantize_activations(self, layer: Any, quantize_activations: Any) -> None:
        pass

    def get_output_quantizers(self, layer: Any) -> list[Quantizer]:
        # A layer that keeps its weights in float has a place, too: the order of its weights is seen to there.
        ordered = bool(self.weights) or not layer.weights
        return [] if self.output is None and ordered else [PlacedQuantizer(self.output)]

    def get_config(self) -> dict[str, Any]:
        return {
            "weights": {name: serialize(quantizer) for name, quantizer in self.weights.items()},
            "output": serialize(self.output),
            "note": self.note,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LayerQuantizeConfig":
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()

    __hash__ = object.__hash__


follow_keras(LayerQuantizeConfig)


@register
class OutputQuantizeConfig(LayerQuantizeConfig):
    """Layers without weights: Add, Concatenate, ReLU, pooling, Softmax ... Only the output is quantized."""


class _KernelConfig(LayerQuantizeConfig):
    """One kernel, ternary by default."""

    attribute = "kernel"
    depthwise = False
    layer_types: tuple[type, ...] = ()

    def default_weights(self) -> dict[str, Quantizer]:
        return {self.attribute: TernaryBranchQuantizer(depthwise=self.depthwise)}

    def _by_attribute(self, weights: Any) -> dict[str, Quantizer]:
        """A quantizer alone is the kernel's."""
        return {self.attribute: weights} if isinstance(weights, Quantizer) else weights

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Quantizer]]:
        if not isinstance(layer, self.layer_types):
            raise ValueError(
                f"{type(self).__name__}: expected a layer of type "
                f"{' or '.join(t.__name__ for t in self.layer_types)}, got {type(layer).__name__} {layer.name!r}; "
                "leave the config out to have it chosen"
            )
        return super().get_weights_and_quantizers(layer)


@register
class Conv2DQuantizeConfig(_KernelConfig):
    """Conv2D: kernel (h, w, C, M)."""

    layer_types = (keras.layers.Conv2D,)


@register
class DenseQuantizeConfig(_KernelConfig):
    """Dense: kernel (K, M)."""

    layer_types = (keras.layers.Dense,)


@register
class DepthwiseConv2DQuantizeConfig(_KernelConfig):
    """DepthwiseConv2D: kernel (h, w, C, multiplier), channels are the last two axes."""

    attribute = "depthwise_kernel"
    depthwise = True
    layer_types = (keras.layers.DepthwiseConv2D,)


@register
class SeparableConv2DQuantizeConfig(LayerQuantizeConfig):
    """SeparableConv2D: the layout transform splits the layer; these are the quantizers of its two kernels."""

    def default_weights(self) -> dict[str, Quantizer]:
        return {
            "depthwise_kernel": LinearWeightQuantizer(depthwise=True),
            "pointwise_kernel": TernaryBranchQuantizer(),
        }


def kernel_config_class(layer: keras.layers.Layer) -> type[LayerQuantizeConfig] | None:
    """The config class for a layer with a kernel, or None."""
    for config_class in (DepthwiseConv2DQuantizeConfig, Conv2DQuantizeConfig, DenseQuantizeConfig):
        # Exact types: a subclass such as Conv2DTranspose means something else.
        if type(layer) in config_class.layer_types:
            return config_class
    return None


__all__ = [
    "Conv2DQuantizeConfig",
    "DenseQuantizeConfig",
    "DepthwiseConv2DQuantizeConfig",
    "LayerQuantizeConfig",
    "OutputQuantizeConfig",
    "SeparableConv2DQuantizeConfig",
    "kernel_config_class",
]
