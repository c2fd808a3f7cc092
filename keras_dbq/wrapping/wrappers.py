"""Looking into quantized models: wrappers, their quantizers and variables, in one place."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from keras_dbq.compat import QuantizeWrapper, keras, tf
from keras_dbq.network.graph import inner
from keras_dbq.network.kernels import without_activation
from keras_dbq.quantizers import ActivationQuantizer, LinearWeightQuantizer, TernaryBranchQuantizer
from keras_dbq.wrapping.layers import QuantizeTensor
from keras_dbq.wrapping.quantize_configs import LayerQuantizeConfig


class QuantizedWeight(NamedTuple):
    """One quantized weight tensor: the float variable, its quantizer and the quantizer's variables."""

    variable: tf.Variable
    quantizer: Any
    variables: dict[str, tf.Variable]


class QuantizedTensor(NamedTuple):
    """One quantized activation: name of the (inner) layer whose output it is, quantizer and variables."""

    layer_name: str
    quantizer: ActivationQuantizer
    variables: dict[str, tf.Variable]


def quantized_weights(layer: keras.layers.Layer) -> list[QuantizedWeight]:
    """The quantized weights of a wrapper; empty for any other layer."""
    if not isinstance(layer, QuantizeWrapper) or not layer.built:
        return []
    return [QuantizedWeight(*entry) for entry in layer._weight_vars]


def quantized_output(layer: keras.layers.Layer) -> QuantizedTensor | None:
    """The output (for an input quantizer: the input) that this layer quantizes, or None."""
    if isinstance(layer, QuantizeTensor) and isinstance(layer.quantizer, ActivationQuantizer):
        return QuantizedTensor(layer.name, layer.quantizer, layer.quantizer_vars)
    if isinstance(layer, QuantizeWrapper) and layer.built and layer._output_quantizers:
        return QuantizedTensor(layer.layer.name, layer._output_quantizers[0], layer._output_quantizer_vars)
    return None


def bias(layer: keras.layers.Layer) -> tf.Variable | None:
    """The bias variable of a kernel layer, plain or wrapped (whose attribute `bias` may be a rounded tensor)."""
    plain = inner(layer)
    for weight in quantized_weights(layer):
        rounder = getattr(weight.quantizer, "bias", None)
        if rounder is not None:
            return rounder.variable
    return plain.bias if getattr(plain, "use_bias", False) else None


def config_of(layer: keras.layers.Layer) -> Any:
    """The QuantizeConfig of a wrapper (unpacked from tfmot's OutputOnlyConfig), or None."""
    config = getattr(layer, "quantize_config", None)
    nested = getattr(config, "quantize_config", None)
    return nested if isinstance(nested, LayerQuantizeConfig) else config


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Layers of the model in order, nested models opened."""
    result: list[keras.layers.Layer] = []
    for layer in model.layers:
        result.extend(all_layers(layer) if isinstance(layer, keras.Model) else [layer])
    return result


def check_quantized(model: Any, function: str) -> None:
    """Raises a one-line error unless the model holds quantized layers."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"{function}: expected a quantized tf_keras model, got {type(model).__name__}")
    if not any(isinstance(layer, (QuantizeWrapper, QuantizeTensor)) for layer in all_layers(model)):
        raise ValueError(
            f"{function}: model {model.name!r} has no quantized layer; call keras_dbq.quantize_model first"
        )


@contextmanager
def quantizer_flags(model: keras.Model, **flags: Any) -> Iterator[None]:
    """Sets Python flags on all quantizers for a while.

    Args:
      weights_bypass: weights pass through in float.
      weights_training: weights use their training forward (and its gradient) also with training=False.
      activations_bypass: activations pass through in float.
      observing: (quantizer's variables, tensor) -> None, which sees every activation; they pass through.

    The flags act when a graph is traced, so call the model eagerly (`model(x, training=...)`) inside.
    """
    weight_quantizers = [w.quantizer for layer in all_layers(model) for w in quantized_weights(layer)]
    outputs = [t.quantizer for layer in all_layers(model) if (t := quantized_output(layer)) is not None]
    changes = [(q, "bypass", flags.get("weights_bypass", False)) for q in weight_quantizers]
    changes += [(q, "training_forward", flags.get("weights_training", False)) for q in weight_quantizers]
    changes += [(q, "bypass", flags.get("activations_bypass", False)) for q in outputs]
    changes += [(q, "observing", flags.get("observing")) for q in outputs]
    for quantizer, name, value in changes:
        setattr(quantizer, name, value)
    try:
        yield
    finally:
        for quantizer, name, _ in changes:
            quantizer.__dict__.pop(name, None)


__all__ = [
    "ActivationQuantizer",
    "LinearWeightQuantizer",
    "QuantizedTensor",
    "QuantizedWeight",
    "TernaryBranchQuantizer",
    "all_layers",
    "bias",
    "check_quantized",
    "config_of",
    "inner",
    "quantized_output",
    "quantized_weights",
    "quantizer_flags",
    "without_activation",
]
