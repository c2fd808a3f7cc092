"""Biases on the grid of their layer's accumulator."""

from typing import Any

import numpy as np

from keras_dbq.compat import tf

LARGEST = 2.0**31 - 1


def round_bias(bias: Any, input_scale: Any, weight_scale: Any) -> Any:
    """n * S with n = round(b / S), S = input_scale * weight_scale; gradient 1 (straight-through).

    source: Goncharenko et al. (FAT), whose scales are the inverse of these; they clip n to +-(2^31 - 1). choice: a bias
    beyond that (a channel of tiny weights) stays as it is, because the exporter gives such a channel a larger scale
    (`export.integerize.fit_bias`) instead of another bias.

    Args:
      bias: float32 [M].  input_scale: float32 scalar.  weight_scale: float32 [M] or [1].
    """
    step = tf.stop_gradient(input_scale * weight_scale)
    codes = tf.round(bias / step)
    return bias + tf.stop_gradient(tf.where(tf.abs(codes) < LARGEST, codes * step - bias, 0.0))


class BiasRounder:
    """Gives a wrapped layer its rounded bias for the next call, and keeps the variable that trains.

    choice: tfmot lists what its wrapper quantizes twice, which files cannot hold; so the bias stays the inner layer's
    variable, and only the attribute that its `call` reads is exchanged, as tfmot does with kernels.
    """

    def __init__(self, wrapper: Any):
        self.layer = wrapper.layer
        self.variable = self.layer.bias if getattr(self.layer, "use_bias", False) else None
        self.source: Any = None  # (quantizer, variables) of the layer's input, once it is known

    def give(self, value: Any) -> None:
        """What the inner layer adds from now on: a tensor [M], or None for the variable."""
        if self.variable is not None:
            # Past Keras' own __setattr__, which would drop the variable from the layer's weights.
            object.__setattr__(self.layer, "bias", self.variable if value is None else value)

    def input_scale(self, wrapper: Any) -> Any:
        """Scale of the grid that the layer's input is on, a float32 scalar; None where that is not one grid."""
        if self.source is None:
            self.source = _source(wrapper)
        if self.source is None:
            return None
        quantizer, variables = self.source
        low, high = quantizer.range(variables)
        return tf.stop_gradient(high - low) / np.float32(2**quantizer.bits - 1)


def _source(wrapper: Any) -> Any:
    """(quantizer, variables) of what a wrapper reads, found through the functional graph that it stands in.

    The graph is there again after loading, so nothing of this is stored.
    """
    from keras_dbq.network import roles
    from keras_dbq.wrapping import wrappers

    if not wrapper.inbound_nodes:
        return None  # the call that builds the graph: only shapes matter
    found = set()
    for node in wrapper.inbound_nodes:
        tensor = tf.nest.flatten(node.keras_inputs)[0]
        while True:
            history = tensor._keras_history
            quantized = wrappers.quantized_output(history.layer)
            if quantized is not None:
                found.add((quantized.quantizer, id(quantized.variables["high"])))
                last = quantized
                break
            plain = wrappers.inner(history.layer)
            passes = (roles.SAME_RANGE, roles.IDENTITY)
            if roles.is_function_layer(plain) or roles.plain_role(plain) not in passes:
                return None
            tensor = tf.nest.flatten(history.layer.inbound_nodes[history.node_index].keras_inputs)[0]
    return (last.quantizer, last.variables) if len(found) == 1 else None
