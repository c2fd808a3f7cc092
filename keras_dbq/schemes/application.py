"""A scheme applied to a float network: rewritten, and each layer in the wrapper of its quantizers."""

from __future__ import annotations

from typing import Any

from keras_dbq.compat import QuantizeScheme, QuantizeWrapperV2, keras
from keras_dbq.network import graph
from keras_dbq.wrapping.serialization import quantize_scope


def everything(model: keras.Model) -> dict[str, dict[str, Any]]:
    """tfmot's map of a model whose layers are all to be quantized, with no config given."""
    return {layer.name: {"quantize_config": None} for layer in model.layers}


def wrapped(copy: keras.Model, scheme: QuantizeScheme) -> keras.Model:
    """The network in the scheme's form, each layer in the wrapper of its quantizers, which fit nothing yet.

    Args:
      copy: flat (`graph.flat_copy`); it may be changed.

    Raises:
      ValueError: see `schemes.base.LayoutTransform`.
    """
    transformed, planned = scheme.get_layout_transformer().apply(copy, everything(copy))
    registry = scheme.get_quantize_registry()

    def wrap(layer: keras.layers.Layer) -> keras.layers.Layer:
        if layer.name not in planned:
            return layer
        return QuantizeWrapperV2(
            layer, registry.get_quantize_config(layer), name_prefix="quant_", trainable=layer.trainable
        )

    with quantize_scope():
        return graph.rebuild(transformed, wrap)
