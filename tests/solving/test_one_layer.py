"""One layer: less error, offset and spread behind it those of the wanted output; brute force on a depthwise kernel."""

import itertools

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.network import kernels
from keras_dbq.network.moments import Moments
from keras_dbq.solving import one_layer
from keras_dbq.wrapping import naming, wrappers
from tests import nets

L = keras.layers
RNG = np.random.default_rng(0)


def quantized(kind, bias, scheme=None):
    """The wrapper of one layer, ternary or as the scheme has it, and the batch norm behind it."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 4))
    layer = {"conv": L.Conv2D(5, 2, use_bias=bias), "depthwise": L.DepthwiseConv2D(2, use_bias=bias)}[kind]
    x = layer(inputs)
    x = x if bias else L.BatchNormalization()(x)
    scheme = scheme or keras_dbq.DBQScheme(1, ternary_first=True, ternary_last=True, ternary_depthwise=True)
    pictures = RNG.normal(size=(20, 6, 6, 4)).astype(np.float32)
    q_model = keras_dbq.quantize_model(nets.randomize(keras.Model(inputs, L.ReLU()(x))), scheme, pictures)
    wrapper = next(layer for layer in wrappers.all_layers(q_model) if wrappers.quantized_weights(layer))
    return wrapper, naming.folds(q_model).get(id(wrapper))


def moments_of(wrapper, groups, count=4000):
    """Inputs of some covariance and the layer's own float outputs."""
    weight = wrappers.quantized_weights(wrapper)[0]
    columns = kernels.columns(wrappers.inner(wrapper), weight.variable.numpy())
    parts = np.split(np.asarray(columns, np.float64), groups, 1)
    found, data = [], []
    for w in parts:
        x = RNG.normal(1, 1, size=(count, len(w))) @ RNG.normal(size=(len(w), len(w)))
        total = Moments.zeros(*w.shape)
        total.add(x, x @ w + 0.5)
        found.append(total)
        data.append((x, x @ w + 0.5))
    return found, data


@pytest.mark.parametrize("kind, groups", [("conv", 1), ("depthwise", 4)])
@pytest.mark.parametrize("bias", [False, True])
def test_errors_are_those_of_the_data_and_the_offset_matches(kind, groups, bias):
    wrapper, norm = quantized(kind, bias)
    moments, data = moments_of(wrapper, groups)
    inner = norm and wrappers.inner(norm)
    float_norm = inner and [v.numpy().astype(np.float64) for v in (inner.moving_mean, inner.moving_variance)]
    own = 0 if norm is not None else wrapper.layer.bias.numpy()
    before, after = one_layer.solve_layer(wrapper, norm, [moments])
    weight = wrappers.quantized_weights(wrapper)[0]
    parts = np.split(weight.quantized_columns(), groups, 1)
    got = np.concatenate([x @ w for (x, _), w in zip(data, parts, strict=True)], 1)
    wanted = np.concatenate([y for _, y in data], 1)
    error = ((got - got.mean(0) - wanted + wanted.mean(0)) ** 2).sum() / ((wanted - wanted.mean(0)) ** 2).sum()
    assert after == pytest.approx(error, rel=1e-4) and after < before
    if norm is None:
        np.testing.assert_allclose(wrapper.layer.bias.numpy(), own + wanted.mean(0) - got.mean(0), 1e-4, 1e-4)
    else:
        ours = (got - inner.moving_mean.numpy()) / np.sqrt(inner.moving_variance.numpy() + inner.epsilon)
        theirs = (wanted - float_norm[0]) / np.sqrt(float_norm[1] + inner.epsilon)
        np.testing.assert_allclose(ours.mean(0), theirs.mean(0), 1e-3, 1e-3)
        np.testing.assert_allclose(ours.std(0), theirs.std(0), 1e-3)


@pytest.mark.parametrize("kind, groups", [("conv", 1), ("depthwise", 4)])
@pytest.mark.parametrize("briefly", [0, 1e8])
def test_codes_of_8_bits_make_up_for_each_other(kind, groups, briefly, monkeypatch):
    monkeypatch.setattr(one_layer, "_BRIEFLY", briefly)
    wrapper, norm = quantized(kind, True, keras_dbq.FATScheme())
    weight = wrappers.quantized_weights(wrapper)[0]
    assert weight.quantizer.bits == 8
    moments, _ = moments_of(wrapper, groups)
    before, after = one_layer.solve_layer(wrapper, norm, [moments])
    assert 0 < after < 0.5 * before


@pytest.mark.parametrize("mode, most", [("scalar", 4e9), ("vector", 0)])
def test_8_bits_with_one_scale_or_of_large_layers_are_rounded_each_by_itself(mode, most, monkeypatch):
    monkeypatch.setattr(one_layer, "_NOT_AT_ALL", most)
    wrapper, norm = quantized("conv", True, keras_dbq.FATScheme(mode=mode))
    kernel = wrappers.quantized_weights(wrapper)[0].variable.numpy()
    moments, _ = moments_of(wrapper, 1)
    one_layer.solve_layer(wrapper, norm, [moments])
    # The wanted outputs are those of the float weights, which are of least cost, so they stay.
    np.testing.assert_allclose(wrappers.quantized_weights(wrapper)[0].variable.numpy(), kernel, atol=1e-4)


def test_statistics_of_training_become_those_of_the_layers_own_output():
    wrapper, norm = quantized("conv", False)
    moments, data = moments_of(wrapper, 1)
    wanted, inner = data[0][1], wrappers.inner(norm)
    inner.moving_mean.assign(wanted.mean(0))
    inner.moving_variance.assign(wanted.var(0))
    one_layer.solve_layer(wrapper, norm, [moments])
    got = data[0][0] @ wrappers.quantized_weights(wrapper)[0].quantized_columns()
    np.testing.assert_allclose(inner.moving_mean.numpy(), got.mean(0), 1e-3, 1e-3)
    np.testing.assert_allclose(inner.moving_variance.numpy(), got.var(0), 1e-2)


def test_brute_force_on_a_depthwise_kernel_is_hardly_better():
    """All 3**4 kernels of a channel, each with its best scale and offset."""
    wrapper, norm = quantized("depthwise", False)
    moments, data = moments_of(wrapper, 4)
    one_layer.solve_layer(wrapper, norm, [moments])
    weight = wrappers.quantized_weights(wrapper)[0]
    every = np.array(list(itertools.product((-1, 0, 1), repeat=4)), float).T
    for (x, y), w in zip(data, np.split(weight.quantized_columns(), 4, 1), strict=True):
        x, y = x - x.mean(0), y[:, 0] - y[:, 0].mean()
        tried = x @ every
        power = (tried**2).sum(0)
        best = (y**2).sum() - ((tried.T @ y) ** 2 / np.where(power > 0, power, np.inf)).max()
        found = ((x @ w[:, 0] - y) ** 2).sum()
        codes = np.sign(w[:, 0])
        own = (y**2).sum() - (x @ codes @ y) ** 2 / ((x @ codes) ** 2).sum()
        assert found == pytest.approx(own, rel=1e-3)  # the scale is the best for these codes
        assert best - 1e-6 <= found <= best + 0.15 * (y**2).sum()


def test_few_pictures_pull_towards_the_float_weights():
    """Inputs with an error that the wanted output does not have: from few positions much of it is learnt by heart."""

    def parts(count):
        rng, w = np.random.default_rng(1), np.random.default_rng(0).normal(size=(40, 6))
        found = []
        for _ in range(4):
            x = rng.normal(size=(count, 40))
            found.append([Moments.zeros(40, 6)])
            found[-1][0].add(x + 0.5 * rng.normal(size=x.shape), x @ w)
        return found, [w]

    ridges = [one_layer._best_ridge(*parts(count), True) for count in (15, 100, 20_000)]
    assert ridges == sorted(ridges, reverse=True) and ridges[0] > 100 * ridges[-1]
    assert one_layer._best_ridge(parts(100)[0][:1], parts(100)[1], True) == one_layer._UNKNOWN


def test_inputs_that_hardly_change_do_not_blow_weights_up():
    """What float32 leaves of a constant says nothing of the wanted output, however much that varies."""
    wrapper, norm = quantized("depthwise", False)
    moments, _ = moments_of(wrapper, 4)
    rng = np.random.default_rng(0)
    moments[1] = Moments.zeros(4, 1)
    moments[1].add(3 + 1e-7 * rng.normal(size=(500, 4)), rng.normal(size=(500, 1)))
    weight = wrappers.quantized_weights(wrapper)[0]
    before = weight.quantized_columns()[:, 1].copy()
    one_layer.solve_layer(wrapper, norm, [moments])
    assert np.abs(weight.quantized_columns()[:, 1]).max() < 100 * np.abs(before).max()


def test_inputs_that_never_change_leave_the_float_weights_fit():
    wrapper, norm = quantized("depthwise", False)
    moments, _ = moments_of(wrapper, 4)
    moments[1] = Moments.zeros(4, 1)
    moments[1].count = 5
    weight = wrappers.quantized_weights(wrapper)[0]
    before = weight.quantized_columns()[:, 1].copy()
    one_layer.solve_layer(wrapper, norm, [moments])
    assert all(np.isfinite(v.numpy()).all() for v in one_layer.variables(wrapper, norm))
    np.testing.assert_allclose(weight.quantized_columns()[:, 1], before, rtol=1e-5)
