"""Patches are what TensorFlow's kernels see; moments are those of all that was added."""

import itertools

import numpy as np
import pytest

from keras_dbq.compat import keras
from keras_dbq.network import kernels, moments
from keras_dbq.network.moments import Moments, by_group, drawn, groups, patches, positions

L = keras.layers
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "kernel, strides, dilation, padding, size",
    [
        (kernel, strides, dilation, padding, size)
        for kernel, strides, dilation, padding, size in itertools.product(
            (1, 3, (2, 5)), (1, 2), (1, 2), ("same", "valid"), ((9, 11), (12, 9))
        )
        if strides == 1 or dilation == 1
    ],
)
def test_a_convolution_is_its_patches_times_its_kernel(kernel, strides, dilation, padding, size):
    layer = L.Conv2D(4, kernel, strides, padding, dilation_rate=dilation, use_bias=False)
    x = RNG.normal(size=(2, *size, 3)).astype(np.float32)
    wanted = layer(x).numpy().reshape(-1, 4)
    assert positions(layer, x) == len(wanted)
    picked = RNG.permutation(len(wanted))[:7]
    got = patches(layer, x, picked) @ layer.get_weights()[0].reshape(-1, 4)
    np.testing.assert_allclose(got, wanted[picked], atol=1e-5)


@pytest.mark.parametrize(
    "layer, count",
    [
        (L.DepthwiseConv2D(3, 2, "same", depth_multiplier=2, use_bias=False), 6),
        (L.DepthwiseConv2D((2, 3), dilation_rate=2, use_bias=False), 6),
        (L.Conv2D(9, 3, padding="same", groups=3, use_bias=False), 3),
        (L.Conv2D(4, 3, use_bias=False), 1),
    ],
)
def test_groups_of_channels_have_inputs_of_their_own(layer, count):
    x = RNG.normal(size=(2, 9, 8, 6)).astype(np.float32)
    wanted = layer(x).numpy()
    wanted = wanted.reshape(-1, wanted.shape[-1])
    assert groups(layer, 6) == count
    picked = RNG.permutation(len(wanted))[:11]
    seen = by_group(layer, patches(layer, x, picked), 6)
    parts = np.split(kernels.columns(layer, layer.get_weights()[0]), count, 1)
    np.testing.assert_allclose(
        np.concatenate([a @ w for a, w in zip(seen, parts, strict=True)], 1), wanted[picked], atol=1e-5
    )


@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 6)])
def test_a_dense_layer_sees_rows(shape):
    layer = L.Dense(3, use_bias=False)
    x = RNG.normal(size=shape).astype(np.float32)
    wanted = layer(x).numpy().reshape(-1, 3)
    assert positions(layer, x) == len(wanted)
    np.testing.assert_allclose(patches(layer, x, np.array([4, 1])) @ layer.get_weights()[0], wanted[[4, 1]], atol=1e-5)


@pytest.mark.parametrize("centre", [False, True])
def test_moments_of_several_batches(centre):
    x, y = RNG.normal(1, 2, size=(30, 4)), RNG.normal(-1, 1, size=(30, 2))
    total = Moments.zeros(4, 2)
    for part in (slice(0, 7), slice(7, 30)):
        total.add(x[part], y[part])
    gram, cross, power = total.centred(centre)
    if centre:
        x, y = x - x.mean(0), y - y.mean(0)
    np.testing.assert_allclose(gram, x.T @ x / 30)
    np.testing.assert_allclose(cross, x.T @ y / 30)
    np.testing.assert_allclose(power, (y**2).mean(0))


@pytest.mark.parametrize("most, count", [(1000, 2 * 25), (40, 20), (1, 1)])
def test_positions_are_drawn_evenly_from_all_pictures(monkeypatch, most, count):
    monkeypatch.setattr(moments, "POSITIONS", most)
    layer, x = L.Conv2D(4, 3, 2, "same"), RNG.normal(size=(2, 9, 9, 3))
    found = drawn(layer, x, 4, np.random.default_rng(0))
    assert len(found) == count and (np.diff(found) > 0).all() and found[-1] < 50
