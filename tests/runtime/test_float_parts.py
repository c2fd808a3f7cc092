"""Files with a part in float: `verify` judges them, and finds a float operator that computes something else."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.reference import ops_float
from tests import nets

L = keras.layers


def norm(x):
    return L.Conv2D(4, 1, name="last")(L.LayerNormalization(name="norm")(L.Conv2D(6, 3, name="first")(x)))


def attention(x):
    x = L.Reshape((9, 6))(L.Conv2D(6, 3, strides=2, name="first")(x))
    return L.Dense(3, name="head")(L.Flatten()(L.MultiHeadAttention(2, 3, name="attention")(x, x)))


def recurrent(x):
    """The converter writes the batch into its first states, so the file is run one example at a time."""
    x = L.Reshape((3, 8))(L.Conv2D(4, 3, strides=3, padding="same", name="first")(x)[:, :, :2])
    return L.Dense(3, name="head")(L.LSTM(5, unroll=True, name="lstm")(x))


def volume(x):
    x = L.Conv3D(3, 2, strides=(1, 2, 1), padding="same", name="volume")(L.Reshape((4, 4, 6, 4))(
        L.Conv2D(6, 1, name="first")(x)))  # fmt: skip
    return L.Dense(3, name="head")(L.Flatten()(x))


def exported(call):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3), name="image")
    model = keras.Model(inputs, call(inputs))
    q_model = nets.quantize(model, nets.pictures(32, shape=(8, 8, 3)), on_unsupported="skip")
    return q_model, keras_dbq.export_tflite(q_model, None)


@pytest.mark.parametrize(
    "call, layer", [(norm, "norm"), (attention, "attention"), (recurrent, "lstm"), (volume, "volume")]
)
def test_a_part_in_float_is_verified(call, layer):
    q_model, report = exported(call)
    assert any(text.startswith("float: ") and layer in text for text in report.findings)
    x = nets.pictures(12, seed=3, shape=(8, 8, 3))
    found = keras_dbq.verify(q_model, report.data, x, top1_threshold=0.5)
    assert found.passed and not any(row.interpreter for row in found.rows)
    with pytest.raises(ValueError, match=f"strict: expected integers between input and output, got .*{layer}"):
        keras_dbq.export_tflite(q_model, None, strict=True)


def test_a_float_operator_that_computes_something_else_is_found(monkeypatch):
    q_model, report = exported(norm)
    true = ops_float.FLOAT_OPS["MEAN"]
    monkeypatch.setitem(ops_float.FLOAT_OPS, "MEAN", lambda call, x, axes: 1.01 * true(call, x, axes))
    x = nets.pictures(12, seed=3, shape=(8, 8, 3))
    found = keras_dbq.verify(q_model, report.data, x, raise_on_failure=False)
    assert not found.passed and found.first_difference.startswith("norm"), found


def test_the_tolerance_is_far_from_a_code():
    """choice: a float tensor of 256 codes would have to be off by 40 tolerances to be off by a code."""
    assert ops_float.TOLERANCE < 1 / 255 / 30 and np.float32(ops_float.TOLERANCE) > 0
