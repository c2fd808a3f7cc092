"""Our Keras layers: a quantizer of a tensor that no layer can carry, codes by a table, and the name of an output."""

from typing import Any

from keras_dbq.compat import keras, register, smart_cond, tf
from keras_dbq.quantizers import ActivationQuantizer, deserialize, serialize
from keras_dbq.wrapping import freezing
from keras_dbq.wrapping.placed import only_shapes


@register
class QuantizeTensor(keras.layers.Layer):
    """Quantizes a tensor that no wrapper can: a model's input, or the result of an operator such as `x + 3.0`.

    tfmot's QuantizeLayer does not mark itself as built, so that a `.keras` file loads its variables twice; hence this.

    Args:
      quantizer: ActivationQuantizer or another quantizer of activations, or its config.
    """

    quantization_role = "output"  # see `network.roles`

    def __init__(self, quantizer: Any, **kwargs: Any):
        super().__init__(**kwargs)
        if isinstance(quantizer, dict) and "class_name" not in quantizer:  # an ActivationQuantizer's stands alone
            quantizer = ActivationQuantizer.from_config(quantizer)
        self.quantizer = deserialize(quantizer)

    def build(self, input_shape: Any) -> None:
        if not self.built:
            self.quantizer_vars = self.quantizer.build(input_shape, "tensor", self)
        super().build(input_shape)
        freezing.freeze_once(self)

    @tf.autograph.experimental.do_not_convert
    def call(self, inputs: Any, training: Any = None) -> Any:
        if only_shapes():
            return tf.identity(inputs)
        if training is None:
            training = keras.backend.learning_phase()
        if not self.trainable:
            training = False
        return smart_cond(
            training,
            lambda: self.quantizer(inputs, True, self.quantizer_vars),
            lambda: self.quantizer(inputs, False, self.quantizer_vars),
        )

    def get_config(self) -> dict[str, Any]:
        alone = type(self.quantizer) is ActivationQuantizer
        config = self.quantizer.get_config() if alone else serialize(self.quantizer)
        return {**super().get_config(), "quantizer": config}


@register
class CodeTable(QuantizeTensor):
    """Makes few codes of a tensor that is on a grid of 256 codes already: in the file a table of those.

    Args:
      quantizer: CodeQuantizer, or its config.
    """

    quantization_role = "table"


@register
class NamedOutput(keras.layers.Layer):
    """Changes nothing: its name, without `PREFIX`, is what the float model calls this output.

    A rewrite may end in layers of other names, and nested models are spliced in; the file keeps the user's names.
    """

    PREFIX = "output_"
    quantization_role = "identity"  # see `network.roles`

    def call(self, inputs: Any) -> Any:
        return inputs
