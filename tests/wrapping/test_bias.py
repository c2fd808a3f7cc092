"""Biases of wrapped layers: rounded to their accumulator's grid, and corrected after calibration."""

import numpy as np

import keras_dbq
from keras_dbq import limits
from keras_dbq.compat import keras, tf
from keras_dbq.wrapping import bias, lookup, wrappers
from tests.wrapping import tiny

L = keras.layers


def test_rounded_to_whole_steps_with_gradient_one():
    values, unit = tf.constant([0.1, -0.26, 0.0]), tf.constant([0.01, 0.02, 0.5])
    with tf.GradientTape() as tape:
        tape.watch(values)
        rounded = bias.round_bias(values, tf.constant(0.3), unit, 27)
    step = 0.3 * unit.numpy().astype(np.float64)
    np.testing.assert_allclose(rounded, np.rint(values.numpy() / step) * step, rtol=1e-6)
    np.testing.assert_array_equal(tape.gradient(rounded, values), np.ones(3))


def test_a_bias_beyond_the_accumulators_room_stays():
    """The room is what the dot product leaves of int32 (0.1 forgot that part of it)."""
    length, step = 40000, np.float32(2.0**-20)
    room = limits.bias_room(length)
    assert room < 0.5 * limits.BIAS_LIMIT
    codes = np.array([0.9 * room, 1.1 * room, -1.1 * room])
    values = tf.constant((codes + 0.3) * step + 0.3 * step * np.array([1, 0, 0]), tf.float32)
    exact = tf.constant([0.6 * step, 100.6 * step])
    rounded = bias.round_bias(values, tf.constant(1.0), tf.constant([step]), length)
    np.testing.assert_array_equal(rounded[1:], values[1:])
    np.testing.assert_array_equal(bias.round_bias(exact, 1.0, tf.constant([step]), length), [step, 101 * step])


def test_the_input_quantizer_is_found_through_layers_that_pass_values_on():
    inputs = keras.Input(tiny.SHAPE)
    x = L.Conv2D(4, 3, activation="relu", name="first")(inputs)
    x = L.Flatten(name="flat")(L.MaxPooling2D(name="pool")(x))
    q_model = keras_dbq.quantize_model(
        keras.Model(inputs, L.Dense(3, name="last")(x)), keras_dbq.FATScheme(), tiny.pictures()
    )
    found = bias.input_quantizer(q_model.get_layer("quant_last"))
    assert found == lookup.quantized_output(q_model.get_layer("quant_first"))
    first = bias.input_quantizer(q_model.get_layer("quant_first"))
    assert first.layer_name.startswith("quantize_")


def test_two_inputs_on_two_grids_are_not_one():
    """0.1 rounded to the grid of the first input."""
    shared, inputs = L.Dense(3, name="shared"), keras.Input(tiny.SHAPE)
    one, two = (L.Conv2D(4, 3, activation="relu", name=name)(inputs) for name in ("one", "two"))
    outputs = [shared(L.GlobalAveragePooling2D()(x)) for x in (one, two)]
    q_model = keras_dbq.quantize_model(keras.Model(inputs, outputs), keras_dbq.FATScheme(), tiny.pictures())
    layer = q_model.get_layer("quant_shared")
    assert bias.input_quantizer(layer) is None
    q_model(tiny.pictures(2), training=False)
    assert layer.layer.bias is lookup.bias(layer)


def test_the_variable_is_added_while_weights_are_float():
    q_model = tiny.quantized(keras_dbq.FATScheme())
    layer = q_model.get_layer("quant_stem")
    variable = lookup.bias(layer)
    q_model(tiny.pictures(2), training=False)
    assert layer.layer.bias is not variable
    with wrappers.quantizer_flags(q_model, weights_bypass=True):
        q_model(tiny.pictures(2), training=False)
        assert layer.layer.bias is variable


def test_a_matched_bias_is_restored_unless_it_was_trained():
    layer = tiny.quantized().get_layer("quant_head")
    variable = lookup.bias(layer)
    bias.restore_bias(layer)
    before = variable.numpy()
    bias.match_bias(layer, before + 1)
    np.testing.assert_array_equal(variable.numpy(), before + 1)
    bias.restore_bias(layer)
    np.testing.assert_array_equal(variable.numpy(), before)
    bias.match_bias(layer, before + 1)
    variable.assign(before + 2)
    bias.restore_bias(layer)
    np.testing.assert_array_equal(variable.numpy(), before + 2)
