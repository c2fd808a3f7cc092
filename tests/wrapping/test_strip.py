"""Back to a plain Keras model, with the weights that the file will hold."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.wrapping import lookup, strip, wrappers
from tests import nets
from tests.wrapping import tiny


@pytest.mark.parametrize("make", nets.ALL, ids=lambda f: f.__name__)
def test_strip_gives_plain_keras_with_quantized_weights(make, tmp_path):
    q_model = keras_dbq.quantize_model(make(), keras_dbq.DBQScheme(), nets.pictures())
    plain = keras_dbq.strip(q_model)
    x = nets.pictures(8, seed=2)
    with wrappers.quantizer_flags(q_model, activations_bypass=True):
        want = q_model(x, training=False).numpy()
    np.testing.assert_allclose(plain.predict(x, verbose=0), want, rtol=1e-4, atol=1e-5)
    names = {type(layer).__module__.split(".")[0] for layer in plain.layers}
    assert names == {"tf_keras"}
    for layer in q_model.layers:
        if lookup.quantized_weights(layer):
            integers = keras_dbq.integer_weights(layer)
            kernel = plain.get_layer(lookup.inner(layer).name).get_weights()[0]
            levels = kernel.reshape(-1, len(integers.scale)) / integers.scale
            np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    plain.save(tmp_path / "plain.keras")


def test_quantized_values_are_in_a_plain_layers_order():
    q_model = tiny.quantized()
    layer = q_model.get_layer("quant_stem")
    kernel, bias = strip.quantized_values(layer)
    integers = keras_dbq.integer_weights(layer)
    np.testing.assert_array_equal(kernel, integers.values * integers.scale)
    np.testing.assert_array_equal(bias, layer.layer.bias.numpy())


def test_strip_errors():
    with pytest.raises(ValueError, match="strip: model 'tiny' has no quantized layer"):
        keras_dbq.strip(tiny.network())
    with pytest.raises(TypeError, match="strip: expected a quantized tf_keras model, got str"):
        keras_dbq.strip("model")
    assert isinstance(keras_dbq.strip(tiny.quantized()), keras.Model)
