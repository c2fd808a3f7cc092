"""Transposed convolutions as convolutions: geometry, weights, and what is fused."""

import numpy as np
import pytest

from keras_dbq.compat import keras, tf
from keras_dbq.schemes import transposed
from keras_dbq.schemes.rewrite import rewrite
from tests.property.networks import enliven

L = keras.layers


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 7])
def test_every_kernel_and_stride(kernel, stride, padding):
    inputs = keras.Input((5, 4, 3))
    model = enliven(keras.Model(inputs, L.Conv2DTranspose(2, kernel, stride, padding)(inputs)))
    new = rewrite(model, {layer.name for layer in model.layers}).model
    assert not [layer for layer in new.layers if isinstance(layer, L.Conv2DTranspose)]
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(new(x), model(x), rtol=1e-4, atol=1e-5)


def test_geometry_of_the_usual_decoder():
    """Kernel 4, stride 2, same: two taps, a border of one on both sides, one output cut off on both."""
    assert transposed.geometry(4, 2, 1, True, 8, 16) == (2, (1, 1), (1, 1))


def test_weights_against_the_definition():
    """One input of 1 gives the kernel, written block by block."""
    kernel = np.arange(9, dtype=np.float32).reshape(3, 3, 1, 1)
    places = transposed.weights_of_places(kernel, (2, 2))
    assert places.shape == (2, 2, 1, 4)
    x = np.zeros((1, 4, 4, 1), np.float32)
    x[0, 1, 1] = 1
    y = tf.nn.depth_to_space(tf.nn.conv2d(x, places, 1, "VALID"), 2).numpy()[0, :, :, 0]
    np.testing.assert_array_equal(y[:3, :3], kernel[:, :, 0, 0])
    assert y.sum() == kernel.sum()


def test_batch_norm_and_relu_go_before_the_blocks_are_put_together():
    inputs = keras.Input((4, 4, 3))
    x = L.ReLU(name="relu")(L.BatchNormalization(name="norm")(L.Conv2DTranspose(2, 4, 2, "same", name="up")(inputs)))
    model = enliven(keras.Model(inputs, x))
    found = rewrite(model, {layer.name for layer in model.layers})
    names = [layer.name for layer in found.model.layers]
    assert names[1:5] == ["up_pad_1", "up", "norm", "relu"] and names[-1] == "up_crop_1"
    assert found.origin["up"].type == "Conv2DTranspose" and found.origin["up_crop_1"].layer == "up"
    assert found.model.get_layer("norm").gamma.shape == (8,)
