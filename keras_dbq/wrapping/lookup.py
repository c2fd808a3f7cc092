"""What a layer of a quantized model quantizes: its weights, its output, its bias."""

from typing import Any, NamedTuple

import numpy as np

from keras_dbq.compat import QuantizeWrapper, keras, tf
from keras_dbq.network.graph import inner


class QuantizedWeight(NamedTuple):
    """One quantized weight tensor: the float variable, its quantizer and the quantizer's variables."""

    variable: tf.Variable
    quantizer: Any
    variables: dict[str, tf.Variable]

    def quantized_columns(self) -> np.ndarray:
        """What it computes with now, float64 [K, M]."""
        quantized = self.quantizer(self.variable, False, self.variables).numpy()
        return np.asarray(self.quantizer.columns(quantized), np.float64)


class QuantizedTensor(NamedTuple):
    """One quantized activation: name of the (inner) layer whose output it is, quantizer and variables."""

    layer_name: str
    quantizer: Any
    variables: dict[str, tf.Variable]


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Layers of the model in order, nested models opened."""
    result: list[keras.layers.Layer] = []
    for layer in model.layers:
        result.extend(all_layers(layer) if isinstance(layer, keras.Model) else [layer])
    return result


def quantized_weights(layer: keras.layers.Layer) -> list[QuantizedWeight]:
    """The quantized weights of a wrapper; empty for any other layer."""
    if not isinstance(layer, QuantizeWrapper) or not layer.built:
        return []
    return [QuantizedWeight(variable, _own(placed), variables) for variable, placed, variables in layer._weight_vars]


def quantized_output(layer: keras.layers.Layer) -> QuantizedTensor | None:
    """The output (for a `QuantizeTensor`: the input) that this layer quantizes, or None."""
    if not layer.built:
        return None
    if getattr(layer, "quantization_role", None) in ("output", "table"):
        return QuantizedTensor(layer.name, layer.quantizer, layer.quantizer_vars)
    placed = layer._output_quantizers if isinstance(layer, QuantizeWrapper) else []
    if not placed or _own(placed[0]) is None:
        return None
    return QuantizedTensor(layer.layer.name, _own(placed[0]), layer._output_quantizer_vars)


def bias(layer: keras.layers.Layer) -> tf.Variable | None:
    """The bias variable of a kernel layer, plain or wrapped (whose attribute `bias` may be a rounded tensor)."""
    placed = layer._weight_vars if isinstance(layer, QuantizeWrapper) and layer.built else []
    for rounder in (getattr(quantizer, "rounder", None) for _, quantizer, _ in placed):
        if rounder is not None:
            return rounder.variable
    plain = inner(layer)
    return plain.bias if getattr(plain, "use_bias", False) else None


def _own(placed: Any) -> Any:
    """The quantizer inside of a `PlacedQuantizer`; one that another config has placed is itself."""
    return getattr(placed, "quantizer", placed)


def check_quantized(model: Any, function: str) -> None:
    """Raises a one-line error unless the model holds quantized layers."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"{function}: expected a quantized tf_keras model, got {type(model).__name__}")
    if not any(isinstance(layer, QuantizeWrapper) or quantized_output(layer) for layer in all_layers(model)):
        raise ValueError(
            f"{function}: model {model.name!r} has no quantized layer; call keras_dbq.quantize_model first"
        )
