"""The soft curve holds while training, for the weights that are asked for, and grows sharp."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.training.annealing import Annealing, few_levels
from tests import nets
from tests.training import small


@pytest.mark.parametrize("scheme", [keras_dbq.DBQScheme(branches=2), keras_dbq.FATScheme(bits=4)])
def test_training_takes_the_curve_and_inference_the_levels(scheme):
    q_model = keras_dbq.quantize_model(nets.mobilenet_v1(), scheme, nets.pictures(8))
    weights = few_levels(q_model.layers, q_model.trainable_variables)
    annealing = Annealing(weights)
    assert weights
    for variable, quantizer, variables in weights:
        hard, steps = (quantizer(variable, training, variables).numpy() for training in (False, True))
        distances = []
        with annealing.soft():
            for done in (0.0, 0.5, 1.0):
                annealing.proceed(done)
                assert np.array_equal(quantizer(variable, False, variables), hard)
                distances.append(np.abs(quantizer(variable, True, variables) - hard).mean())
        assert distances[0] > distances[1] > distances[2]
        assert np.array_equal(quantizer(variable, True, variables), steps)


def test_weights_that_are_not_trained_are_left_out():
    q_model, _ = small.pair(keras_dbq.DBQScheme(branches=1))
    names = [w.variable.name for w in few_levels(q_model.layers, q_model.trainable_variables)]
    assert len(names) == 1 and "pointwise" in names[0]
    keras_dbq.freeze(q_model, "weights")
    assert few_levels(q_model.layers, q_model.trainable_variables) == []
