"""Weights go where their name says, else by order; other numbers and shapes are errors."""

import numpy as np
import pytest

from keras_dbq.compat import keras
from keras_dbq.keras3 import weights
from keras_dbq.keras3.missing import NoCounterpart
from tests.keras3.networks import L, keras_3, lively


def built(old, new, shape):
    lively(keras_3.Sequential([keras_3.Input(shape), old]))
    new.build((None, *shape))
    return old, new


def test_by_name_where_names_tell():
    assert weights._order(["kernel", "vector_u", "bias"], ["kernel", "bias", "vector_u"]) == [0, 2, 1]
    assert weights._order(["kernel", "kernel"], ["kernel", "kernel"]) == [0, 1]
    assert weights._order(["scale"], ["other"]) == [0]


def test_copied_values_are_equal():
    old, new = built(L.BatchNormalization(), keras.layers.BatchNormalization(), (5,))
    weights.copy(old, new)
    for value in ("gamma", "beta", "moving_mean", "moving_variance"):
        np.testing.assert_array_equal(np.asarray(getattr(old, value)), getattr(new, value).numpy())


def test_a_normalization_computes_with_its_new_weights():
    old, new = built(L.Normalization(), keras.layers.Normalization(), (3,))
    weights.copy(old, new)
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    np.testing.assert_allclose(new(x), np.asarray(old(x)), rtol=1e-5)


def test_other_shapes_are_refused():
    old, new = built(L.Dense(3, name="d"), keras.layers.Dense(4, name="d"), (5,))
    with pytest.raises(
        NoCounterpart, match=r"its weights have the shapes \[\(5, 3\), \(3,\)\], tf_keras' layer 'd' of"
    ):
        weights.copy(old, new)
    old, new = built(L.Dense(3), keras.layers.Dense(3, use_bias=False), (5,))
    with pytest.raises(NoCounterpart, match="its weights have the shapes"):
        weights.copy(old, new)
