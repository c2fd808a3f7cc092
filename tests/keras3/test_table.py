"""The tables agree with both Keras: what is listed exists, what has the same name has the same values."""

import inspect

import numpy as np
import pytest

from keras_dbq.compat import keras
from keras_dbq.keras3 import activations, table
from tests.keras3.networks import L, keras_3


def test_layers_exist_in_both():
    assert not [name for name in table.LAYERS if not hasattr(L, name) or not hasattr(keras.layers, name)]


def test_every_layer_of_keras_3_is_in_a_table_or_refused_on_purpose():
    """A release of Keras 3 that brings a layer which tf_keras has, too, is noticed."""
    classes = {c.__name__ for c in vars(L).values() if inspect.isclass(c) and issubclass(c, L.Layer)}
    in_both = {name for name in classes if hasattr(keras.layers, name)}
    bases = {"Layer", "Wrapper", "InputLayer", "Lambda"}  # Lambda: layers.counterpart
    assert in_both - table.LAYERS - bases == set(table.WHY_NOT)


@pytest.mark.parametrize("name", sorted(table.ACTIVATIONS))
def test_activations_of_the_same_name_have_the_same_values(name):
    x = np.random.default_rng(0).normal(0, 4, (5, 40)).astype("float32")
    old = np.asarray(keras_3.activations.get(name)(keras_3.ops.convert_to_tensor(x)))
    new = np.asarray(keras.activations.get(name)(keras.backend.constant(x)))
    np.testing.assert_allclose(new, old, rtol=1e-6, atol=1e-7)


def test_hard_sigmoid_has_other_values():
    """Why it is not in the table."""
    x = keras.backend.constant([1.0])
    old, new = keras_3.activations.hard_sigmoid(1.0), keras.activations.hard_sigmoid(x)
    assert abs(float(old) - float(new[0])) > 0.03 and "hard_sigmoid" in activations.IN_OPERATORS


def test_inert_options_are_options_that_some_layer_has():
    options = set()
    for name in table.LAYERS:
        for cls in getattr(L, name).__mro__:
            if "__init__" in vars(cls):
                options |= set(inspect.signature(cls.__init__).parameters)
    later = {
        "rms_scaling",
        "quantization_mode",
        "use_gate",
        "sliding_window",
        "flash_attention",
    }  # of some releases only
    assert not set(table.INERT) - options - later
