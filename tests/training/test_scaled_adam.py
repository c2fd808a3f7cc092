"""Adam in units: Keras' own Adam where the unit is 1, steps in proportion to it elsewhere."""

import numpy as np

import keras_dbq
from keras_dbq.compat import keras, tf
from keras_dbq.training.scaled_adam import ScaledAdam, units
from keras_dbq.wrapping import wrappers
from tests.wrapping import tiny

RNG = np.random.default_rng(0)


def test_the_same_steps_as_keras():
    start = RNG.normal(size=(4, 3)).astype(np.float32)
    own, other = tf.Variable(start), tf.Variable(start)
    optimizer = keras.optimizers.Adam(0.1, epsilon=1e-12, jit_compile=False)
    scaled = ScaledAdam([own], [np.float32(1)], 0.1)
    for _ in range(5):
        gradient = tf.constant(RNG.normal(size=(4, 3)).astype(np.float32))
        scaled.apply_gradients([(gradient, own)])
        optimizer.apply_gradients([(gradient, other)])
    np.testing.assert_allclose(own, other, rtol=1e-5)


def test_steps_are_in_units_and_what_is_not_given_stays():
    a, b = tf.Variable([1.0, 1.0]), tf.Variable(3.0)
    optimizer = ScaledAdam([a, b], [np.float32([1, 10]), np.float32(1)], 0.01)
    optimizer.apply_gradients([(tf.constant([5.0, 0.01]), a)])
    np.testing.assert_allclose(a, [0.99, 0.9], rtol=1e-5)
    assert b.numpy() == 3


def test_constraints_hold():
    variable = tf.Variable([0.5], constraint=lambda x: tf.maximum(x, 0.45))
    ScaledAdam([variable], [np.float32(1)], 0.3).apply_gradients([(tf.constant([1.0]), variable)])
    assert variable.numpy() == np.float32(0.45)


def test_units_of_a_network():
    q_model = tiny.quantized(keras_dbq.DBQScheme())
    variables = q_model.trainable_variables
    found = units(q_model.layers, variables)
    by_id = {id(v): unit for v, unit in zip(variables, found, strict=True)}
    for layer in q_model.layers:
        for weight in wrappers.quantized_weights(layer):
            deviation = np.asarray(weight.variable).reshape(-1, weight.variable.shape[-1]).std(0)
            if not wrappers.inner(layer).name.startswith("depthwise"):
                np.testing.assert_allclose(by_id[id(weight.variable)].reshape(-1), deviation, rtol=1e-5)
    assert all(
        np.broadcast_shapes(np.shape(unit), v.shape) == tuple(v.shape) for v, unit in zip(variables, found, strict=True)
    )
