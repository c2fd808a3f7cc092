"""Back from a quantized model to a plain Keras model."""

from typing import Any

import numpy as np

from keras_dbq.compat import QuantizeWrapper, keras
from keras_dbq.network import graph
from keras_dbq.wrapping import lookup
from keras_dbq.wrapping.layers import NamedOutput


def strip(q_model: keras.Model) -> keras.Model:
    """A plain Keras model: the inner layers with their quantized weights, no quantizers, nothing of tfmot or ours.

    Activations are no longer quantized; batch norm stays a layer of its own.

    Raises:
      TypeError: not a model.  ValueError: a model without quantized layers.
    """
    lookup.check_quantized(q_model, "strip")
    pairs: list[tuple[Any, Any]] = []

    def replace(layer: keras.layers.Layer) -> Any:
        ours = isinstance(layer, NamedOutput) or lookup.quantized_output(layer)
        if ours and not isinstance(layer, QuantizeWrapper):
            return lambda x, **_: x
        new = graph.clone(lookup.inner(layer))
        pairs.append((layer, new))
        return new

    plain = graph.rebuild(q_model, replace, name=q_model.name)
    for old, new in pairs:
        new.set_weights(quantized_values(old))
    return plain


def quantized_values(layer: keras.layers.Layer) -> list[np.ndarray]:
    """Weights of the (inner) layer in a plain layer's order, the kernel with the values that the file will hold.

    The wrapper has replaced `layer.kernel` by a tensor, so the inner layer no longer lists it; in a plain layer the
    kernel comes first, then the bias.
    """
    quantized = lookup.quantized_weights(layer)
    variables = {id(weight.variable) for weight in quantized}
    kernels = [weight.quantizer(weight.variable, False, weight.variables).numpy() for weight in quantized]
    return kernels + [v.numpy() for v in lookup.inner(layer).weights if id(v) not in variables]
