"""Every network that is quantized is compared with its float self."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras, tf
from keras_dbq.schemes import rewrite
from keras_dbq.schemes.same_function import _apart
from tests import nets

L = keras.layers


def test_a_rewrite_that_changes_the_answer_is_an_error(monkeypatch):
    """As a mean in place of an average over part of the map."""
    right = rewrite.rewrite

    def wrong(model, quantized):
        done = right(model, quantized)
        head = next(layer for layer in done.model.layers if layer.name == "head")
        head.set_weights([2 * w for w in head.get_weights()])
        return done

    monkeypatch.setattr("keras_dbq.schemes.base.rewrite", wrong)
    inputs = keras.Input((4,))
    model = nets.randomize(keras.Model(inputs, L.Dense(3, name="head")(inputs)))
    with pytest.raises(ValueError, match="expected the same answer after the rewrites, got another one in") as caught:
        keras_dbq.quantize_model(model, keras_dbq.DBQScheme(), np.zeros((4, 4), np.float32))
    assert "\n" not in str(caught.value)


def test_a_function_that_draws_numbers_is_not_compared():
    inputs = keras.Input((4,))
    noisy = L.Lambda(lambda x: x + tf.random.normal(tf.shape(x)))(inputs)
    model = keras.Model(inputs, L.Dense(3)(noisy))
    keras_dbq.quantize_model(model, keras_dbq.DBQScheme(on_unsupported="skip"), np.zeros((4, 4), np.float32))


@pytest.mark.parametrize("right, apart", [(1.05, False), (1.2, True), (np.nan, False)])
def test_rounding_is_not_a_difference(right, apart):
    assert _apart(np.array([1.0, 2.0]), right * np.array([1.0, 2.0])) == apart
