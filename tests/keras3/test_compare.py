"""The comparison: its measure, its inputs, and that it restores what it changes."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.keras3 import compare
from keras_dbq.keras3.convert import _Walk
from tests.keras3.networks import K, L, keras_3, lively


def test_the_measure():
    a = np.array([1.0, -4.0], np.float32)
    assert compare._error(a, a) == 0 and compare._error(a, a + np.float32([0, 0.5])) == 0.125
    assert compare._error(a, a[:1]) == float("inf")
    assert not compare._error(a, np.float32([np.nan, -4])) <= 1
    nan = np.float32([np.nan, np.inf])
    assert compare._error(nan, nan) == 0 and compare._error(nan, -nan) == float("inf")
    assert compare._error(np.float32([1e-5]), np.float32([2e-5])) == pytest.approx(0.01)  # of 0.001 at least
    assert compare._error(np.array([1, 2]), np.array([1, 2])) == 0
    assert compare._error(np.array([1, 2]), np.array([1, 3])) == float("inf")


def test_each_layer_is_compared_on_what_keras_3_computed_before_it():
    """Errors do not add up: a network whose layers amplify whatever comes in."""
    x = inputs = keras_3.Input((8,))
    for _ in range(30):
        x = L.BatchNormalization(epsilon=1e-6)(L.Dense(8, activation="tanh")(x) * 30.0)
    walk = _Walk(float32=True)
    walk.run(lively(keras_3.Model(inputs, x)))
    assert compare.compare(walk.converted[0], 1e-5) < 2e-6


def test_a_weight_that_differs_is_found_wherever_it_is():
    inputs = keras_3.Input((8, 8, 3))
    x = L.Conv2D(4, 3, name="first")(inputs)
    x = L.Softmax(axis=(1, 2, 3))(L.BatchNormalization(name="second")(x) * 1e3)  # hides what comes before it
    walk = _Walk(float32=True)
    new = walk.run(lively(keras_3.Model(inputs, x)))
    compare.compare(walk.converted[0], 1e-5)
    for name in ("first", "second"):
        weight = new.get_layer(name).weights[-1]
        before = weight.numpy()
        weight.assign(before * 1.01)
        with pytest.raises(ValueError, match=f"layer '{name}' of type .*: expected tf_keras to compute the same"):
            compare.compare(walk.converted[0], 1e-5)
        weight.assign(before)


def test_inputs_follow_the_models():
    ids, flags = keras_3.Input((5,), dtype="int32"), keras_3.Input((5,), dtype="bool")
    pixels = keras_3.Input((None, None, 3), dtype="uint8")
    x = L.Embedding(3, 4)(ids) * K.expand_dims(K.cast(flags, "float32"), -1)
    y = L.GlobalAveragePooling2D()(L.Conv2D(2, 40)(L.Rescaling(1 / 255)(pixels)))  # larger than the first size
    model = keras_3.Model([ids, flags, pixels], [x, y])
    assert len(keras_dbq.from_keras3(model).inputs) == 3
    fixed = keras_3.Input(batch_shape=(7, 4))
    assert keras_dbq.from_keras3(keras_3.Model(fixed, L.Dense(2)(fixed))).input_shape == (7, 4)


def test_models_that_cannot_be_run_are_one_line():
    text = keras_3.Input((1,), dtype="string")
    with pytest.raises(ValueError, match="expected numbers, got string; prepare texts before"):
        keras_dbq.from_keras3(keras_3.Model(text, L.Identity()(text)))
    x = keras_3.Input((None, 4))
    with pytest.raises(ValueError, match="cannot be run on random input .*; give its inputs a size"):
        keras_dbq.from_keras3(keras_3.Model(x, K.reshape(x, (-1, 7, 13))))


def test_a_layer_that_tensorflow_cannot_run_here_is_one_line(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no such kernel\non this machine")

    x, walk = keras_3.Input((4,)), _Walk(float32=True)
    walk.run(keras_3.Model(x, L.Dense(2, name="d")(x)))
    monkeypatch.setattr(keras.layers.Dense, "__call__", fail)
    with pytest.raises(ValueError, match="layer 'd' of type Dense: tf_keras cannot run it here .no such kernel.; repl"):
        compare.compare(walk.converted[0], 1e-5)


def test_policies_are_put_back():
    layer = L.Dense(2, dtype="mixed_bfloat16")
    x = keras_3.Input((4,))
    model = keras_3.Model(x, layer(x))
    with compare._float32(model):
        assert layer.compute_dtype == "float32"
    assert layer.dtype_policy.name == "mixed_bfloat16"
