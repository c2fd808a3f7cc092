"""Looking into quantized models."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.wrapping import lookup, quantize_configs, wrappers
from tests.wrapping import tiny


def test_what_a_layer_quantizes():
    q_model = tiny.quantized()
    weights = {layer.name: lookup.quantized_weights(layer) for layer in q_model.layers}
    found = {name: w[0].quantizer.describe() for name, w in weights.items() if w}
    assert found == {"quant_stem": "8 bit", "quant_middle": "2 ternary branches", "quant_head": "8 bit"}
    assert weights["quant_stem"][0].variable.shape == (3, 3, 3, 4)
    outputs = {layer.name: lookup.quantized_output(layer) for layer in q_model.layers}
    assert {name for name, output in outputs.items() if output is None} >= {"image", "quant_middle"}
    assert outputs["quant_norm"].layer_name == "norm" and set(outputs["quant_norm"].variables) == {"low", "high"}
    assert lookup.bias(q_model.get_layer("quant_middle")) is None
    assert lookup.bias(q_model.get_layer("quant_head")).shape == (3,)


def test_a_config_of_a_wrapper():
    config = wrappers.config_of(tiny.quantized().get_layer("quant_middle"))
    assert isinstance(config, quantize_configs.Conv2DQuantizeConfig) and config.note == "ternary"
    assert wrappers.config_of(keras.layers.ReLU()) is None


def test_layers_of_nested_models():
    inner = tiny.network()
    outer = keras.Sequential([keras.layers.InputLayer(tiny.SHAPE), inner])
    assert lookup.all_layers(outer)[-len(inner.layers) :] == inner.layers


def test_flags_act_for_a_while():
    q_model, x, seen = tiny.quantized(forward="smooth"), tiny.pictures(4), []
    plain = q_model(x, training=False).numpy()
    changed = {}
    for flag in ("weights_bypass", "weights_training", "activations_bypass"):
        with wrappers.quantizer_flags(q_model, **{flag: True}):
            changed[flag] = q_model(x, training=False).numpy()
    with wrappers.quantizer_flags(q_model, observing=lambda variables, values: seen.append(values.shape)):
        changed["observing"] = q_model(x, training=False).numpy()
    assert all((y != plain).any() for y in changed.values())
    np.testing.assert_array_equal(changed["observing"], changed["activations_bypass"])
    assert len(seen) == sum(lookup.quantized_output(layer) is not None for layer in q_model.layers)
    np.testing.assert_array_equal(q_model(x, training=False), plain)


def test_flags_within_flags():
    """What the inner ones hide comes back with their end."""
    q_model = tiny.quantized()
    quantizers = [w.quantizer for layer in q_model.layers for w in lookup.quantized_weights(layer)]
    with wrappers.quantizer_flags(q_model, weights_bypass=True):
        with wrappers.quantizer_flags(q_model):
            assert not any(quantizer.bypass for quantizer in quantizers)
        assert quantizers and all(quantizer.bypass for quantizer in quantizers)
    assert not any(quantizer.bypass for quantizer in quantizers)


def test_a_misspelled_flag_is_an_error():
    with pytest.raises(TypeError, match="unexpected keyword argument 'weight_bypass'"):
        with wrappers.quantizer_flags(tiny.quantized(), weight_bypass=True):
            pass


def test_flags_end_with_an_error_inside():
    q_model = tiny.quantized()
    with pytest.raises(KeyError), wrappers.quantizer_flags(q_model, weights_bypass=True):
        raise KeyError
    assert not any(w.quantizer.bypass for layer in q_model.layers for w in lookup.quantized_weights(layer))


def test_not_quantized():
    with pytest.raises(ValueError, match="here: model 'tiny' has no quantized layer; call keras_dbq.quantize_model"):
        wrappers.check_quantized(tiny.network(), "here")
    wrappers.check_quantized(keras_dbq.quantize_model(tiny.network(), keras_dbq.DBQScheme(), tiny.pictures()), "here")
