"""Which axis of which kernel is the channel: held against what the layers compute."""

import numpy as np
import pytest

from keras_dbq.compat import keras
from keras_dbq.network import kernels

L = keras.layers
SHAPE = (5, 4, 6)
LAYERS = {
    "conv": lambda: L.Conv2D(8, (3, 2), use_bias=False),
    "groups": lambda: L.Conv2D(8, 3, groups=2, use_bias=False),
    "depthwise": lambda: L.DepthwiseConv2D(3, use_bias=False),
    "multiplier": lambda: L.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False),
    "dense": lambda: L.Dense(7, use_bias=False),
}


def built(name):
    """(layer, its kernel, an input, the output)."""
    layer = LAYERS[name]()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 6) if name == "dense" else (3, *SHAPE)).astype(np.float32)
    y = layer(x).numpy()
    kernel = layer.get_weights()[0]
    return layer, kernel, x, y


@pytest.mark.parametrize("name", LAYERS)
def test_output_channels_are_where_the_outputs_say(name):
    layer, kernel, x, y = built(name)
    assert kernels.is_kernel_layer(layer) and getattr(layer, kernels.attribute(layer)).shape == kernel.shape
    assert kernels.channels(layer, kernel.shape) == y.shape[-1]
    assert kernels.columns(layer, kernel).shape == (kernel.size // y.shape[-1], y.shape[-1])
    factors = np.random.default_rng(1).uniform(0.5, 2, y.shape[-1]).astype(np.float32)
    layer.set_weights([kernels.scale_outputs(layer, kernel, factors)])
    np.testing.assert_allclose(layer(x).numpy(), y * factors, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["conv", "depthwise", "multiplier", "dense"])
def test_input_channels_are_where_the_inputs_say(name):
    layer, kernel, x, y = built(name)
    factors = np.random.default_rng(1).uniform(0.5, 2, x.shape[-1]).astype(np.float32)
    layer.set_weights([kernels.scale_inputs(kernel, factors)])
    np.testing.assert_allclose(layer(x / factors).numpy(), y, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(kernels.from_rows(kernels.rows(kernel), kernel.shape), kernel)
    alone = np.zeros_like(x)
    alone[..., 2] = x[..., 2]
    silenced = kernels.rows(kernel).copy()
    silenced[np.arange(x.shape[-1]) != 2] = 0
    layer.set_weights([kernel])
    expected = layer(alone).numpy()
    layer.set_weights([kernels.from_rows(silenced, kernel.shape)])
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_kinds():
    kinds = {name: LAYERS[name]() for name in LAYERS}
    assert [n for n, layer in kinds.items() if kernels.is_depthwise(layer)] == ["depthwise", "multiplier"]
    assert [n for n, layer in kinds.items() if kernels.mixes_channels(layer)] == ["conv", "dense"]
    assert kernels.is_affine(L.DepthwiseConv2D(1)) and not kernels.is_affine(L.DepthwiseConv2D((1, 2)))
    assert not kernels.is_affine(L.Conv2D(3, 1)) and not kernels.is_kernel_layer(L.SeparableConv2D(3, 3))

    class Mine(L.Dense):
        """A subclass may compute anything."""

    assert not kernels.is_kernel_layer(Mine(3))


def test_without_activation_puts_it_back():
    layer = L.Dense(3, activation="relu")
    with kernels.without_activation(layer):
        assert layer.activation is keras.activations.linear
    assert layer.activation is keras.activations.relu
    with pytest.raises(RuntimeError), kernels.without_activation(layer):
        raise RuntimeError
    assert layer.activation is keras.activations.relu
