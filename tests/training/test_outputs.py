"""The tensors that distillation compares: logits before softmax or sigmoid, hidden activations by name."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.training import outputs
from tests import nets

L = keras.layers


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("place", ["dense", "layer"])
def test_logits_stand_before_the_activation(place, activation):
    inputs = keras.Input((5,))
    last = L.Dense(3, activation=activation if place == "dense" else None, name="last")
    x = last(inputs)
    if place == "layer":
        x = L.Softmax()(x) if activation == "softmax" else L.Activation(activation)(x)
    model = keras.Model(inputs, x)
    assert outputs.answer(model) == activation
    data = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    kernel, bias = last.get_weights()
    np.testing.assert_allclose(outputs.logits_model(model)(data), data @ kernel + bias, rtol=1e-5, atol=1e-6)
    assert last.activation is getattr(keras.activations, activation if place == "dense" else "linear")


def test_a_model_that_ends_in_logits_is_itself():
    model = keras.Sequential([L.Dense(3, input_shape=(2,), activation="tanh")])
    assert outputs.logits_model(model) is model and outputs.answer(model) == "logits"


def two_outputs():
    inputs = keras.Input(nets.SHAPE)
    x = L.GlobalAveragePooling2D()(L.Conv2D(4, 3)(inputs))
    return keras.Model(inputs, [L.Dense(2, name="a")(x), L.Dense(3, name="b")(x)], name="two")


def test_several_outputs_are_refused():
    model = two_outputs()
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(), calibration_data=nets.pictures(8))
    message = r"expected a model with one output, got 2 of 'two'; build one with keras.Model\(model.inputs, "
    with pytest.raises(ValueError, match=f"logits_model: {message}"):
        outputs.logits_model(model)
    with pytest.raises(ValueError, match=f"hidden_models: {message}"):
        outputs.hidden_models(q_model, model)
    with pytest.raises(ValueError, match=f"distill: {message}"):
        keras_dbq.Distiller(q_model, model, "all")


def test_whether_hidden_activations_are_shared():
    model = nets.mobilenet_v1()
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(), nets.pictures(8))
    assert outputs.shares_hidden(q_model, model)
    assert not outputs.shares_hidden(q_model, keras.Sequential([L.Dense(3, input_shape=(2,))]))
    two = two_outputs()
    q_two = keras_dbq.quantize_model(two, keras_dbq.DBQScheme(), nets.pictures(8))
    with pytest.raises(ValueError, match="distill: expected a model with one output, got 2 of 'two'"):
        outputs.shares_hidden(q_two, two)
