"""round_biases: Keras computes with the biases that the file has."""

import numpy as np

import keras_dbq
from keras_dbq.compat import keras
from tests import nets
from tests.export.oracle import expected, kernels, quantized

L = keras.layers


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
