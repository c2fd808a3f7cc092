"""The temperature of all ternary layers of a model."""

from keras_dbq.compat import keras
from keras_dbq.wrapping import lookup


def set_temperature(q_model: keras.Model, temperature: float) -> None:
    """Sets T of every ternary layer; the next step in `smooth` or `hard` mode uses it.

    Raises:
      ValueError: temperature not above zero, or the model has no quantized layer.
    """
    lookup.check_quantized(q_model, "set_temperature")
    if not float(temperature) > 0:
        raise ValueError(f"set_temperature: expected a temperature above 0, got {temperature!r}")
    for layer in lookup.all_layers(q_model):
        for weight in lookup.quantized_weights(layer):
            if "temperature" in weight.variables:
                weight.variables["temperature"].assign(temperature)
