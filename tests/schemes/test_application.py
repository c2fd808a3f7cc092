"""A scheme applied to a float network: wrappers where it asks for them, weights as they were."""

import numpy as np

import keras_dbq
from keras_dbq.network.graph import flat_copy
from keras_dbq.schemes import application
from keras_dbq.wrapping import wrappers
from tests import nets


def test_wrapped_and_not_fitted_yet():
    model = nets.randomize(nets.sequential())
    q_model = application.wrapped(flat_copy(model), keras_dbq.DBQScheme(2))
    wrappers.check_quantized(q_model, "test")
    x = nets.pictures(4)
    with wrappers.quantizer_flags(q_model, weights_bypass=True, activations_bypass=True):
        np.testing.assert_allclose(q_model(x).numpy(), model(x).numpy(), rtol=1e-3, atol=1e-4)


def test_everything_names_every_layer():
    model = nets.sequential()
    assert set(application.everything(model)) == {layer.name for layer in model.layers}
