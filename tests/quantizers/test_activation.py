"""The activation quantizer: its ranges move in training only."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras, tf
from keras_dbq.quantizers import ActivationQuantizer
from keras_dbq.wrapping import wrappers
from tests import nets


def test_ema_moves_ranges_in_training_only():
    q_model = nets.quantize(nets.resnet(), ema_decay=0.5)
    tensor = wrappers.quantized_output(q_model.get_layer("quant_stem_relu"))
    high = tensor.variables["high"].numpy()
    q_model(nets.pictures() * 3, training=False)
    assert tensor.variables["high"].numpy() == high
    q_model(nets.pictures() * 3, training=True)
    assert tensor.variables["high"].numpy() != high


def gradient(quantizer, variables, x):
    """Of the sum of the codes, in training."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = quantizer(x, True, variables)
    return y.numpy(), tape.gradient(y, x).numpy()


@pytest.mark.parametrize(
    "options, outside",
    [
        ({}, 1),
        ({"unsigned": True}, 1),
        ({"ema_decay": 1.0}, 0),
        ({"frozen": ("ranges",)}, 0),
        ({"ranges": "trained"}, 0),
    ],
)
def test_what_outgrows_a_moving_range_can_come_back(options, outside):
    quantizer = ActivationQuantizer(**options)
    variables = quantizer.build(None, "x", keras.layers.Layer())
    quantizer.calibrate(variables, 0.0 if quantizer.unsigned else -1.0, 1.0)
    y, dy = gradient(quantizer, variables, np.array([0.25, 3.0], np.float32))
    assert y[1] < 1.1 and abs(y[0] - 0.25) < 0.01  # clipped to a range that has hardly moved
    np.testing.assert_array_equal(dy, [1, outside])


def test_a_network_from_scratch_learns_though_its_logits_outgrow_their_range():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 8)).astype(np.float32)
    labels = (x @ rng.normal(size=(8, 4))).argmax(1)
    inputs = keras.Input((8,))
    keras.utils.set_random_seed(0)
    model = keras.Model(inputs, keras.layers.Dense(4)(inputs))
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(), calibration_data=x * 0.01)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    q_model.compile(keras.optimizers.SGD(0.5), loss)
    history = q_model.fit(x, labels, batch_size=32, epochs=20, verbose=0).history["loss"]
    assert history[-1] < 0.26  # 0.31 where the gradient ends at the range, else 0.21
