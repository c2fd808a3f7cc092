"""Our one Keras layer: the quantizer of a model input."""

from typing import Any

from keras_dbq.compat import keras, register, smart_cond
from keras_dbq.quantizers import ActivationQuantizer


@register
class QuantizeInput(keras.layers.Layer):
    """Quantizes a model's input tensor; the only fake-quant that belongs to no layer of the float model.

    tfmot's QuantizeLayer does not mark itself as built, so that a `.keras` file loads its variables twice; hence this.

    Args:
      quantizer: ActivationQuantizer, or its config.
    """

    def __init__(self, quantizer: ActivationQuantizer | dict[str, Any], **kwargs: Any):
        super().__init__(**kwargs)
        self.quantizer = ActivationQuantizer(**quantizer) if isinstance(quantizer, dict) else quantizer

    def build(self, input_shape):
        if not self.built:
            self.quantizer_vars = self.quantizer.build(input_shape, "input", self)
        super().build(input_shape)

    def call(self, inputs, training=None):
        if training is None:
            training = keras.backend.learning_phase()
        return smart_cond(
            training,
            lambda: self.quantizer(inputs, True, self.quantizer_vars),
            lambda: self.quantizer(inputs, False, self.quantizer_vars),
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "quantizer": self.quantizer.get_config()}
