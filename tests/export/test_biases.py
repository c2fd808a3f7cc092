"""round_biases: Keras computes with the biases that the file has."""

import numpy as np

import keras_dbq
from keras_dbq.compat import keras
from tests import nets
from tests.export.oracle import expected, kernels, quantized

L = keras.layers


def test_a_layer_of_two_calls_is_left_alone():
    """Its bias cannot be on two grids: rounding it to one would change the other call of the next export."""
    inputs = keras.Input(nets.SHAPE)
    conv = L.Conv2D(3, 3, padding="same", activation="relu", name="shared")
    model = keras.Model(inputs, conv(conv(inputs)))
    q_model = quantized(nets.randomize(model), ternary_first=True, ternary_last=True)
    before = [layer.get_weights() for layer in q_model.layers]
    first = keras_dbq.export_tflite(q_model, None, "int8").data
    for old, layer in zip(before, q_model.layers, strict=True):
        for a, b in zip(old, layer.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    assert keras_dbq.export_tflite(q_model, None, "int8").data == first


def test_round_biases_moves_keras_onto_the_files_grid():
    model = nets.resnet()
    q_model = quantized(model, branches=1)
    before = {layer.name: layer.get_weights() for layer in q_model.layers}
    untouched = keras_dbq.export_tflite(q_model, None, round_model_biases=False)
    for layer in q_model.layers:
        for a, b in zip(before[layer.name], layer.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    assert keras_dbq.export_tflite(q_model, None).data == untouched.data
    found = kernels(keras_dbq.export_tflite(q_model, None, "int8").data)
    for name, (_, scale, bias) in expected(model, q_model).items():
        steps = bias / (np.float64(found[name][3]) * scale)
        np.testing.assert_allclose(steps, np.rint(steps), atol=0.02, err_msg=name)
        np.testing.assert_array_equal(found[name][2], np.rint(steps), err_msg=name)
