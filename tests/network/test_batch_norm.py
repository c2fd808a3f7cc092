"""Batch norm: its factor and offset, its axes, and what folds into what."""

import numpy as np
import pytest

from keras_dbq.compat import keras
from keras_dbq.network import batch_norm
from keras_dbq.network.graph import Graph

L = keras.layers


def test_affine_is_what_the_layer_computes():
    rng = np.random.default_rng(0)
    for axis, options in ((-1, {}), (1, {"scale": False}), (2, {"center": False}), ([1, 3], {})):
        norm = L.BatchNormalization(axis=axis, epsilon=1e-2, **options)
        x = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
        norm(x)
        norm.set_weights([rng.uniform(0.5, 2, w.shape) for w in norm.get_weights()])
        factor, offset = batch_norm.affine(norm)
        shape = [size if i in batch_norm.axes(norm, 4) else 1 for i, size in enumerate(x.shape)]
        np.testing.assert_allclose(factor.reshape(shape) * x + offset.reshape(shape), norm(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "axis, rank, axes, over",
    [(-1, 4, (3,), True), (1, 2, (1,), True), (1, 4, (1,), False), ([3, -2], 4, (2, 3), False)],
)
def test_axes(axis, rank, axes, over):
    norm = L.BatchNormalization(axis=axis)
    assert batch_norm.axes(norm, rank) == axes
    assert batch_norm.over_channels(norm, rank) is over


def found(build, **ends):
    """[(kernel layer, batch norm)] of the network that `build` makes from its input."""
    inputs = keras.Input((4, 4, 2))
    model = keras.Model(inputs, build(inputs))
    by_id = {id(layer): layer.name for layer in model.layers}
    return [(by_id[key], norm.name) for key, norm in batch_norm.folds(Graph(model), **ends).items()]


def conv(name="c", **options):
    return L.Conv2D(2, 1, name=name, **options)


def norm(name="n", **options):
    return L.BatchNormalization(name=name, **options)


def twice(layer, x):
    return [layer(x), layer(L.ReLU()(x))]


FOLD = {
    "convolution": lambda x: norm()(conv()(x)),
    "depthwise": lambda x: norm()(L.DepthwiseConv2D(2, name="c")(x)),
    "dense": lambda x: norm()(L.Dense(3, name="c")(x)),
    "separable": lambda x: norm()(L.SeparableConv2D(3, 2, name="c")(x)),
    "both shared": lambda x: [norm_(y) for norm_ in [norm()] for y in twice(conv(), x)],
}


@pytest.mark.parametrize("build", FOLD.values(), ids=list(FOLD))
def test_folds(build):
    assert found(build) == [("c", "n")]


def both_read(x):
    y = conv()(x)
    return [norm()(y), L.ReLU()(y)]


def shared_by_two(x):
    n = norm()
    return [n(conv("c")(x)), n(conv("d")(x))]


def one_call_only(x):
    first, second = twice(conv(), x)
    return [norm()(first), second]


STAY = {
    "an activation between": lambda x: norm()(conv(activation="relu")(x)),
    "another layer between": lambda x: norm()(L.MaxPooling2D()(conv()(x))),
    "another axis": lambda x: norm(axis=1)(conv()(x)),
    "another reader": both_read,
    "an output of the model": lambda x: [y for c in [conv()(x)] for y in (c, norm()(c))],
    "no kernel": lambda x: norm()(x),
    "shared by two convolutions": shared_by_two,
    "behind one call of two": one_call_only,
}


@pytest.mark.parametrize("build", STAY.values(), ids=list(STAY))
def test_stays(build):
    assert found(build) == []


def test_nothing_folds_across_a_quantizer():
    assert found(FOLD["convolution"], ends=lambda node: node.layer.name == "c") == []


def test_output_moments_are_kept_whatever_the_statistics_are():
    rng = np.random.default_rng(0)
    wanted, own = rng.normal(3, 2, (500, 4)), rng.normal(-1, 0.3, (500, 4))
    norm = keras.layers.BatchNormalization()
    norm.build((None, 4))
    norm.moving_mean.assign(rng.normal(size=4))
    norm.moving_variance.assign(rng.uniform(0.5, 2, 4))
    before = norm(wanted.astype(np.float32)).numpy()
    batch_norm.keep_output_moments(norm, (own.mean(0), own.var(0)), (wanted.mean(0), wanted.var(0)), norm)
    after = norm(own.astype(np.float32)).numpy()
    np.testing.assert_allclose(after.mean(0), before.mean(0), rtol=1e-4)
    np.testing.assert_allclose(after.std(0), before.std(0), rtol=1e-4)


def test_channels_that_never_change_keep_finite_statistics():
    norm = keras.layers.BatchNormalization()
    norm.build((None, 3))
    variance = np.array([0.0, 1.0, 0.0])
    batch_norm.keep_output_moments(norm, (np.ones(3), np.array([0.0, 0.0, 2.0])), (np.zeros(3), variance), norm)
    assert np.isfinite(norm.moving_mean.numpy()).all() and (norm.moving_variance.numpy() >= 0).all()
    np.testing.assert_allclose(norm(np.ones((1, 3), np.float32)).numpy(), [[0, 0, 0]], atol=1e-3)
