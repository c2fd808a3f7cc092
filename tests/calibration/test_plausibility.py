"""Calibration data that are scaled otherwise than the training data."""

import warnings

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.network import graph
from tests import nets

L = keras.layers


@pytest.fixture(scope="module")
def trained():
    """A network whose batch norms have seen pictures of mean 0 and variance 1."""
    model = nets.mobilenet_v1()
    for norm in (layer for layer in model.layers if isinstance(layer, L.BatchNormalization)):
        norm.momentum = 0.0
    model.compile("sgd", "sparse_categorical_crossentropy")
    model(nets.pictures(), training=True)
    return model


@pytest.mark.parametrize("factor", [255.0, 1 / 255])
def test_another_scale_is_a_warning(trained, factor):
    with pytest.warns(UserWarning, match="data: at batch norm 'stem_bn' their variance is .* are they scaled"):
        keras_dbq.quantize_model(trained, keras_dbq.FATScheme(), factor * nets.pictures(16))


def test_another_mean_is_a_warning(trained):
    with pytest.warns(UserWarning, match="their mean [0-9.]+ deviations away"):
        keras_dbq.quantize_model(trained, keras_dbq.FATScheme(), nets.pictures(16) + 60)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_data_that_look_alike_are_not(trained, factor):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keras_dbq.quantize_model(trained, keras_dbq.FATScheme(), factor * nets.pictures(16))


def test_fresh_statistics_say_nothing():
    """Several inputs, and a batch norm that was never trained."""
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    model = graph.flat_copy(keras.Model([a, b], L.BatchNormalization()(L.Dense(3)(L.Add()([a, b])))))
    x = [1000 * np.ones((8, 4), np.float32)] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keras_dbq.quantize_model(model, keras_dbq.DBQScheme(), [tuple(x)])
