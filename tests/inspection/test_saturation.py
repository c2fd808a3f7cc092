"""Inputs outside of their calibrated range: found, and told by fit."""

import warnings

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.inspection.saturation import outside_of_range
from tests import nets

L = keras.layers


@pytest.fixture(scope="module")
def networks():
    inputs = keras.Input(nets.SHAPE, name="image")
    model = nets.randomize(keras.Model(inputs, L.Dense(3)(L.GlobalMaxPooling2D()(L.Conv2D(4, 3)(inputs)))))
    return model, keras_dbq.quantize_model(model, keras_dbq.FATScheme(), nets.pictures(16))


def test_the_share_is_counted(networks):
    _, q_model = networks
    high = nets.pictures(16).max()
    x = np.full((2, *nets.SHAPE), 0.9 * high, np.float32)
    assert outside_of_range(q_model, [x]) == {"image": 0.0}
    x[0] = 2 * high
    assert outside_of_range(q_model, [x]) == {"image": 0.5}
    assert outside_of_range(q_model, [-x]) == {"image": 0.5}


def test_each_input_has_its_own():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    model = keras.Model([b, a], L.Add()([L.Dense(3)(a), L.Dense(3)(b)]))
    x = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    q_model = keras_dbq.quantize_model(model, keras_dbq.FATScheme(), [(x, 10 * x)])  # b, a
    assert outside_of_range(q_model, [x, 10 * x]) == {"b": 0.0, "a": 0.0}
    found = outside_of_range(q_model, [10 * x, x])
    assert found["b"] > 0.5 and found["a"] == 0


@pytest.mark.parametrize("factor, told", [(1, 0), (255, 1)])
@pytest.mark.parametrize("way", ["callback", "Distiller"])
def test_fit_tells(networks, way, factor, told):
    model, q_model = networks
    x, weights = factor * nets.pictures(16), q_model.get_weights()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if way == "callback":
            q_model.compile("sgd", "mse")
            q_model.fit(x, np.zeros((16, 3)), verbose=0, callbacks=[keras_dbq.callbacks.RangeCheck(x)])
        else:
            distiller = keras_dbq.Distiller(q_model, model)
            distiller.compile("sgd")
            distiller.fit(x, verbose=0)
    texts = [str(warning.message) for warning in caught]
    assert sum(text.startswith("fit: 9") and "of input 'image' lie outside" in text for text in texts) == told
    q_model.set_weights(weights)
