"""Biases of wrapped layers: rounded to the grid of their accumulator, or corrected after calibration."""

from typing import Any

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.limits import bias_room
from keras_dbq.network import roles
from keras_dbq.ops.activations import grid_scale
from keras_dbq.wrapping import lookup


def round_bias(bias: Any, input_scale: Any, weight_scale: Any, length: int) -> Any:
    """n * S with n = round(b / S), S = input_scale * weight_scale; gradient 1 (straight-through).

    source: Goncharenko et al. (FAT), whose scales are the inverse of these; they clip n to +-(2^31 - 1). choice: a bias
    beyond the accumulator's room (a channel of tiny weights) stays as it is, because the exporter gives such a channel
    a larger scale instead of another bias.

    Args:
      bias: float32 [M].  input_scale: float32 scalar.  weight_scale: float32 [M] or [1].
      length: weights of one dot product, which share the accumulator with the bias (`limits.bias_room`).
    """
    step = tf.stop_gradient(input_scale * weight_scale)
    codes = tf.round(bias / step)
    room = np.float32(bias_room(length))
    return bias + tf.stop_gradient(tf.where(tf.abs(codes) < room, codes * step - bias, 0.0))


class BiasRounder:
    """Gives a wrapped layer its rounded bias for the next call, and keeps the variable that trains.

    choice: tfmot lists what its wrapper quantizes twice, which files cannot hold; so the bias stays the inner layer's
    variable, and only the attribute that its `call` reads is exchanged, as tfmot does with kernels.

    Args:
      layer: the layer inside of the wrapper; it has a bias.
    """

    def __init__(self, layer: keras.layers.Layer):
        self.layer, self.variable = layer, layer.bias
        # What quantizes the layer's input, and in how many calls of the graph that was looked up: a layer that is
        # shared gets another call while its model is built.
        self._source: lookup.QuantizedTensor | None = None
        self._calls = 0

    def round(self, wrapper: Any, quantizer: Any, kernel: Any, variables: Any) -> None:
        """The layer adds from now on its bias rounded under this kernel, or the variable itself: while the weights
        pass in float, and where the layer's input is not on one grid.
        """
        scale = None if quantizer.bypass else self._input_scale(wrapper)
        if scale is None:
            self._give(self.variable)
            return
        unit, length = quantizer.unit(kernel, variables), int(np.prod(kernel.shape)) // self.variable.shape[0]
        bias = tf.convert_to_tensor(self.variable)  # of the layer's compute dtype, float16 in mixed precision
        self._give(tf.cast(round_bias(tf.cast(bias, tf.float32), scale, unit, length), bias.dtype))

    def _give(self, value: Any) -> None:
        # Past Keras' own __setattr__, which would drop the variable from the layer's weights.
        object.__setattr__(self.layer, "bias", value)

    def _input_scale(self, wrapper: Any) -> Any:
        """Scale of the grid that the layer's input is on, a float32 scalar; None where that is not one grid."""
        if self._calls != len(wrapper.inbound_nodes):
            self._source, self._calls = input_quantizer(wrapper), len(wrapper.inbound_nodes)
        if self._source is None:
            return None
        low, high = self._source.quantizer.range(self._source.variables)
        return tf.stop_gradient(grid_scale(low, high, self._source.quantizer.bits))


def input_quantizer(wrapper: Any) -> lookup.QuantizedTensor | None:
    """What quantizes the tensor that a wrapper reads, found through the functional graph that it stands in; None where
    that is not one quantizer, or while the call that builds the graph has not ended.

    The graph is there again after loading, so nothing of this is stored.
    """
    found = [_quantized_before(tf.nest.flatten(node.keras_inputs)[0]) for node in wrapper.inbound_nodes]
    one = len({id(tensor.variables["high"]) for tensor in found if tensor is not None}) == 1
    return found[0] if one and None not in found else None


def _quantized_before(tensor: Any) -> lookup.QuantizedTensor | None:
    """The quantizer on whose grid a KerasTensor is: of its layer, or of one before that passes values through."""
    layer, node_index, _ = tensor._keras_history
    quantized = lookup.quantized_output(layer)
    if quantized is not None:
        return quantized
    plain = lookup.inner(layer)
    if roles.is_function_layer(plain) or roles.plain_role(plain) not in (roles.SAME_RANGE, roles.IDENTITY):
        return None
    return _quantized_before(tf.nest.flatten(layer.inbound_nodes[node_index].keras_inputs)[0])


_MATCHED = "_bias_before_and_after_matching"


def match_bias(wrapper: keras.layers.Layer, value: np.ndarray) -> None:
    """Gives a wrapped layer another bias, float32 [M], which `restore_bias` can undo."""
    variable = lookup.bias(wrapper)
    assert variable is not None, wrapper.name
    object.__setattr__(wrapper, _MATCHED, (variable.numpy(), value))  # past Keras, which would track it
    variable.assign(value)


def restore_bias(wrapper: keras.layers.Layer) -> None:
    """Undoes `match_bias` where nothing has trained the bias since, so that initialising again gives the same."""
    before, after = getattr(wrapper, _MATCHED, (None, None))
    variable = lookup.bias(wrapper)
    if variable is not None and after is not None and np.array_equal(after, variable.numpy()):
        variable.assign(before)
