"""Activations that tf_keras lacks, or has with other values, in operators."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.keras3 import activations
from keras_dbq.keras3.missing import NoCounterpart
from tests.keras3.networks import K, L, check, keras_3, of_layer


@pytest.mark.parametrize("name", sorted(activations.IN_OPERATORS))
def test_in_operators_they_have_keras_3s_values(name):
    x = keras.Input((40,))
    model = keras.Model(x, activations.IN_OPERATORS[name](x, "last"))
    values = np.linspace(-9, 9, 80).reshape(2, 40).astype("float32")
    expected = np.asarray(getattr(keras_3.activations, name)(K.convert_to_tensor(values)))
    np.testing.assert_allclose(model(values), expected, rtol=1e-5, atol=1e-6)
    assert model.layers[-1].name == "last"


@pytest.mark.parametrize("name", sorted(activations.IN_OPERATORS))
def test_inside_of_a_layer_they_are_split_off(name):
    new = check(of_layer(L.Conv2D(3, 3, activation=name, name="c"), (6, 6, 2)))
    assert new.get_layer("c").activation is keras.activations.linear and new.layers[-1].name == f"c_{name}"
    assert check(of_layer(L.Activation(name, name="a"), (6, 2))).layers[-1].name == "a"


def test_a_layer_as_an_activation():
    new = check(of_layer(L.Dense(3, activation=L.LeakyReLU(0.25, name="slope"), name="d"), (4,)))
    assert new.get_layer("slope").alpha == 0.25
    with pytest.raises(ValueError, match="layer 'd' of type Dense: its activation has weights, which Keras 3 does not"):
        keras_dbq.from_keras3(of_layer(L.Dense(3, activation=L.PReLU(), name="d"), (4,)))


def test_names():
    assert activations.name_of(None) == "linear" and activations.name_of(keras_3.activations.gelu) == "gelu"
    assert activations.name_of(K.gelu) == "" == activations.name_of(abs)  # keras.ops.gelu approximates by default
    with pytest.raises(NoCounterpart, match="activation is 'hard_silu'; use one of elu, exponential"):
        activations.same_name(keras_3.activations.hard_silu, "activation")


def test_python_functions_need_the_backend_tensorflow(monkeypatch):
    model = of_layer(L.Lambda(lambda x: x, name="own"), (4,))
    monkeypatch.setattr(keras_3.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="layer 'own' of type Lambda: a Python function for the backend jax; write it"):
        keras_dbq.from_keras3(model)
