"""Which variables train, and one step of point-wise factors."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras, tf
from keras_dbq.training import parts
from keras_dbq.wrapping import wrappers
from tests.training import small


def variables(q_model):
    """Kernels and biases of the quantized layers."""
    return parts.trained_variables(q_model, "pointwise")


def test_all_is_what_keras_would_train():
    q_model, _ = small.pair()
    assert parts.trained_variables(q_model, "all") == q_model.trainable_variables


def test_thresholds_are_factors_alone():
    q_model, _ = small.pair()
    names = {v.name.rpartition("/")[2] for v in parts.trained_variables(q_model, "thresholds")}
    assert names >= {"kernel_threshold_factor:0", "depthwise_kernel_threshold_factor:0", "output_width:0"}
    assert all("factor" in name or "width" in name or "shift" in name for name in names)


def test_a_pointwise_step_is_adams_step_on_the_factors():
    """derived: dL/df = w0 * dL/dw; Adam's first step is the learning rate times the sign of the gradient."""
    q_model, model = small.pair()
    x = tf.constant(small.data(8)[0])
    distiller = keras_dbq.Distiller(q_model, model, "pointwise")
    distiller.compile(keras.optimizers.Adam(0.01, epsilon=1e-12, jit_compile=False))
    start = [v.numpy() for v in distiller.trained]
    with wrappers.quantizer_flags(q_model, weights_training=True), tf.GradientTape() as tape:
        value = distiller.distance(x)
    gradients = tape.gradient(value, distiller.trained)
    distiller.train_step(x)
    for w, g, v in zip(start, gradients, distiller.trained, strict=True):
        clear = np.abs(g * w) > 1e-6
        np.testing.assert_allclose(v.numpy()[clear], (w * (1 - 0.01 * np.sign(g * w)))[clear], rtol=1e-4)


def test_pointwise_leaves_frozen_weights_alone():
    q_model, model = small.pair()
    keras_dbq.freeze(q_model, weights=True, layers=["stem"])
    names = {v.name for v in variables(q_model)}
    assert names and not any("stem" in name for name in names)
    keras_dbq.freeze(q_model, weights=True)
    with pytest.raises(ValueError, match="expected quantized weights that are not frozen in the model, got none"):
        keras_dbq.distill(q_model, model, small.data(8)[0], train="pointwise")
