"""Looking into quantized models: wrappers, their quantizers and variables, in one place."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from keras_dbq.compat import keras
from keras_dbq.network.kernels import without_activation
from keras_dbq.wrapping.lookup import (
    QuantizedTensor,
    QuantizedWeight,
    all_layers,
    bias,
    check_quantized,
    inner,
    quantized_output,
    quantized_weights,
)
from keras_dbq.wrapping.quantize_configs import LayerQuantizeConfig


def config_of(layer: keras.layers.Layer) -> Any:
    """The QuantizeConfig of a wrapper (unpacked from tfmot's OutputOnlyConfig), or None."""
    config = getattr(layer, "quantize_config", None)
    nested = getattr(config, "quantize_config", None)
    return nested if isinstance(nested, LayerQuantizeConfig) else config


@contextmanager
def quantizer_flags(
    model: keras.Model,
    *,
    weights_bypass: bool = False,
    weights_training: bool = False,
    activations_bypass: bool = False,
    observing: Callable[[dict[str, Any], Any], None] | None = None,
) -> Iterator[None]:
    """Sets Python flags on all quantizers for a while.

    Args:
      weights_bypass: weights pass through in float.
      weights_training: weights use their training forward (and its gradient) also with training=False.
      activations_bypass: activations pass through in float.
      observing: (quantizer's variables, tensor) -> None, which sees every activation; they pass through.

    The flags act when a graph is traced, so call the model eagerly (`model(x, training=...)`) inside.
    """
    layers = all_layers(model)
    weights = [w.quantizer for layer in layers for w in quantized_weights(layer)]
    outputs = [t.quantizer for layer in layers if (t := quantized_output(layer)) is not None]
    with (
        _attributes(weights, bypass=weights_bypass, training_forward=weights_training),
        _attributes(outputs, bypass=activations_bypass, observing=observing),
    ):
        yield


def bypassed(quantizers: list[Any]) -> AbstractContextManager[None]:
    """What these quantizers see passes through in float for a while; when a graph is traced, as `quantizer_flags`."""
    return _attributes(quantizers, bypass=True)


def softened(quantizers: list[Any], sharpness: Any) -> AbstractContextManager[None]:
    """What these quantizers of weights see takes their soft curve for a while; as `quantizer_flags`.

    Args:
      sharpness: float32 variable; see `WeightQuantizer.soft`.
    """
    return _attributes(quantizers, sharpness=sharpness)


@contextmanager
def _attributes(quantizers: list[Any], **values: Any) -> Iterator[None]:
    """Hides attributes of the quantizers' classes behind these values for a while; what hid them before comes back."""
    before = [{name: value for name, value in vars(quantizer).items() if name in values} for quantizer in quantizers]
    for quantizer in quantizers:
        vars(quantizer).update(values)
    try:
        yield
    finally:
        for quantizer, hidden in zip(quantizers, before, strict=True):
            for name in values:
                vars(quantizer).pop(name, None)
            vars(quantizer).update(hidden)


__all__ = [
    "QuantizedTensor",
    "QuantizedWeight",
    "all_layers",
    "bias",
    "bypassed",
    "check_quantized",
    "config_of",
    "inner",
    "quantized_output",
    "quantized_weights",
    "quantizer_flags",
    "softened",
    "without_activation",
]
