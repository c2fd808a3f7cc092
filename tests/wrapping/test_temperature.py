"""The temperature of all ternary layers."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.wrapping import lookup, wrappers
from tests.wrapping import tiny


def test_set_temperature_changes_the_smooth_forward():
    q_model = tiny.quantized(forward="smooth")
    x = tiny.pictures(4)
    with wrappers.quantizer_flags(q_model, activations_bypass=True):
        keras_dbq.set_temperature(q_model, 2.0)
        soft = q_model(x, training=True).numpy()
        keras_dbq.set_temperature(q_model, 50.0)
        sharp = q_model(x, training=True).numpy()
    assert np.abs(soft - sharp).max() > 1e-3
    for bad in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="expected a temperature above 0"):
            keras_dbq.set_temperature(q_model, bad)
    with pytest.raises(ValueError, match="set_temperature: model 'tiny' has no quantized layer"):
        keras_dbq.set_temperature(tiny.network(), 2.0)


def test_only_ternary_layers_have_one():
    q_model = tiny.quantized()
    keras_dbq.set_temperature(q_model, 3.0)
    found = {
        layer.name: float(weight.variables["temperature"])
        for layer in q_model.layers
        for weight in lookup.quantized_weights(layer)
        if "temperature" in weight.variables
    }
    assert found == {"quant_middle": 3.0}
