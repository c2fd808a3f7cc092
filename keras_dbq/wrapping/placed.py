"""A quantizer in its place: what a quantizer does not know about the wrapper that it stands in."""

import weakref
from typing import Any

from keras_dbq.compat import Quantizer, keras, tf, with_autograph
from keras_dbq.wrapping import freezing
from keras_dbq.wrapping.bias import BiasRounder


class PlacedQuantizer(Quantizer):
    """What tfmot's wrapper gets for a quantizer: builds and calls it, in the right order among the wrapper's weights.

    It is made anew whenever a wrapper is built, and nothing of it is saved.

    Args:
      quantizer: the quantizer, or None: the tensor passes through, and only the order of weights is seen to.
    """

    def __init__(self, quantizer: Quantizer | None):
        self.quantizer = quantizer
        self.rounder: BiasRounder | None = None
        self._wrapper: Any = None  # weak, for the wrapper holds this

    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> dict[str, Any]:
        self._wrapper = weakref.ref(layer)
        _adopt_inner_weights(layer)
        if getattr(self.quantizer, "round_bias", False) and getattr(layer.layer, "use_bias", False):
            self.rounder = BiasRounder(layer.layer)
        return {} if self.quantizer is None else self.quantizer.build(tensor_shape, name, layer)

    def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        if self.quantizer is None:
            return inputs
        freezing.freeze_once(self._wrapper())
        if self.rounder is not None:
            self.rounder.round(self._wrapper(), self.quantizer, inputs, weights)
        # A frozen layer computes in training what it computes in the file.
        ours = type(self.quantizer).__module__.startswith("keras_dbq.")
        if ours and only_shapes():
            return tf.identity(inputs)
        quantize = self.quantizer if ours else with_autograph(self.quantizer.__call__)
        result = quantize(inputs, training and self._wrapper().trainable, weights, **kwargs)
        # Never the variable itself: the layer inside would list it again, and a saved model would not load.
        return tf.identity(result) if isinstance(result, tf.Variable) else result

    def get_config(self) -> dict[str, Any]:
        return {} if self.quantizer is None else self.quantizer.get_config()


def only_shapes() -> bool:
    """Whether Keras calls a layer only to learn the shape of its result, in a graph that it throws away.

    A quantizer changes no shape, and writing its operators is most of the work of making or loading a quantized model.
    """
    if tf.executing_eagerly():
        return False
    graph = tf.compat.v1.get_default_graph()
    while type(graph).__name__ == "CondBranchFuncGraph":  # the training and the other branch of a layer's call
        graph = graph.outer_graph
    return str(getattr(graph, "name", "")).endswith("_scratch_graph")


def _adopt_inner_weights(wrapper: keras.layers.Layer) -> None:
    """Lists the inner layer's variables before any quantizer's, as tfmot does for a layer that is built already.

    When a model is loaded the inner layer is built later, and without this the order of the weights, and so what a
    file or the optimizer's saved state means, would differ.
    """
    known = {id(v) for v in wrapper._trainable_weights}
    for variable in wrapper.layer.trainable_weights:
        if id(variable) not in known:
            wrapper._trainable_weights.append(variable)
