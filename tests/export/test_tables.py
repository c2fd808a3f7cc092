"""Tables of functions of one number: every code gives what Keras gives, and the file has stock operators alone."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras, tf
from keras_dbq.export import tables
from keras_dbq.tflite.operators import Grid
from tests import nets

L = keras.layers


def test_each_code_holds_the_code_of_the_function():
    source, target = Grid(0.125, 3), Grid(0.5, -7, bottom=-8)
    found = tables.table(lambda x: 2 * x - 1, source, target)
    for code in range(-128, 128):
        value = 2 * (code - 3) * 0.125 - 1
        assert found[code % 256] == np.clip(np.floor(value / 0.5 + 0.5) - 7, -8, 127)


def test_infinity_saturates_and_no_number_is_refused():
    inverse = tables.table(lambda x: np.divide(1, x, where=x != 0, out=np.full_like(x, np.inf)), Grid(1, 0), Grid(1, 0))
    assert inverse[0] == 127
    with pytest.raises(ValueError, match="expected a value for every code, got NaN for -128; keep its input where"):
        with np.errstate(invalid="ignore"):
            tables.table(np.sqrt, Grid(1, 0), Grid(1, 0))


def network():
    """Two functions of one tensor, one of which stands behind a float layer where that is skipped."""
    x = inputs = keras.Input((6, 6, 3), name="image")
    x = L.Conv2D(6, 3, name="first")(x)
    x = L.Add(name="add")([L.Activation("softplus", name="soft")(x), L.Activation("gelu", name="gelu")(x)])
    x = L.LayerNormalization(name="norm")(x)
    return keras.Model(inputs, L.Conv2D(4, 1, activation=lambda v: tf.nn.elu(v) * 2, name="last")(x))


def test_equal_markers_are_told_apart_and_a_table_in_a_float_part_computes_its_function():
    keras.utils.set_random_seed(1)
    q_model = nets.quantize(network(), nets.pictures(32, shape=(6, 6, 3)), on_unsupported="skip")
    report = keras_dbq.export_tflite(q_model, None, "int8")
    assert not any("gelu" in text or "soft" in text for text in report.findings), report.findings
    x = nets.pictures(16, seed=3, shape=(6, 6, 3))
    got = keras_dbq.Interpreter(report.data, delegate=False).predict(x)
    want = q_model.predict(x, verbose=0)
    assert np.abs(got - want).max() <= 0.05 * np.abs(want).max()
