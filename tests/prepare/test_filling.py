"""Dead channels filled: equal outputs, rows made of levels, and nothing touched that may not be."""

import re

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.ops import branches as branch_ops
from keras_dbq.prepare import filling
from tests import nets

L = keras.layers
DEAD = (1, 4, 5)


def network(between=None, norm=True, reader=None, channels=8, dead=DEAD):
    """Producer of channels of which some are dead, `between`, reader, pooling."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input(nets.SHAPE)
    x = L.Conv2D(channels, 3, use_bias=not norm, name="make")(inputs)
    x = L.BatchNormalization(name="make_norm")(x) if norm else x
    x = L.ReLU()(x)
    x = (between or depthwise)(x)
    x = (reader or L.Conv2D(6, 1, name="read"))(x)
    x = L.GlobalAveragePooling2D()(x) if len(x.shape) == 4 else x
    model = keras.Model(inputs, L.Dense(3, name="head")(x))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            set_channels(layer, rng, channels, dead)
    set_channels(model.get_layer("make_norm" if norm else "make"), rng, channels, dead)
    return model


def depthwise(x):
    return L.ReLU()(L.BatchNormalization(name="dw_norm")(L.DepthwiseConv2D(3, use_bias=False, name="dw")(x)))


def set_channels(layer, rng, channels, dead):
    """No picture wakes the dead channels behind this layer, and the others live."""
    weights = {variable.name.split("/")[-1].split(":")[0]: variable for variable in layer.weights}
    offset = rng.uniform(0.2, 0.8, channels)
    offset[list(dead)] = -5
    weights["beta" if "beta" in weights else "bias"].assign(offset)
    factor = weights.get("gamma", weights.get("kernel"))
    if factor is not None:
        values = factor.numpy() * (rng.uniform(0.5, 1.5, channels) if "gamma" in weights else 1)
        values[..., dead] = 0
        factor.assign(values)
    if "moving_mean" in weights:
        weights["moving_mean"].assign(rng.normal(0, 0.1, channels))
        weights["moving_variance"].assign(rng.uniform(0.3, 2, channels))


def assert_equal_outputs(model, filled, x):
    before = model.predict(x, verbose=0)
    np.testing.assert_allclose(filled.predict(x, verbose=0), before, rtol=1e-4, atol=1e-4 * np.abs(before).max())


def row_of(result, name):
    (row,) = [row for row in result.table if row["layer"] == name]
    return row


BETWEEN = {
    "depthwise and batch norm": depthwise,
    "depthwise with relu": lambda x: L.DepthwiseConv2D(3, activation="relu", name="dw")(x),
    "nothing": lambda x: x,
    "pooling and padding": lambda x: L.ZeroPadding2D()(L.Dropout(0.1)(L.AveragePooling2D()(x))),
    # A factor goes in behind swish, where only a depthwise layer and ReLU are left.
    "swish before": lambda x: depthwise(L.Activation("swish")(x)),
}


@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN)
@pytest.mark.parametrize("norm", [True, False], ids=["batch norm", "bias"])
def test_outputs_stay_and_quantized_rows_get_nearer(between, norm):
    model, x = network(between, norm), nets.pictures(48)
    before = model.get_weights()
    result = keras_dbq.fill_dead_channels(model, x)
    row = row_of(result, "read")
    assert (row["channels from"], row["channels"], row["dead"], row["filled"]) == ("make", 8, 3, 3)
    assert row["error after"] < 0.9 * row["error before"]
    assert_equal_outputs(model, result.model, nets.pictures(32, seed=3))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)  # a copy was changed, not the model


@pytest.mark.parametrize("branches", [1, 2, 3])
def test_new_rows_are_levels_and_the_sum_is_the_old_row(branches):
    rng = np.random.default_rng(0)
    rows, power, dead = rng.normal(0, 1, (10, 3, 6)), rng.uniform(0.5, 2, 10), np.array([2, 7, 9])
    power[dead] = 0
    new, copies, before, after = filling.split_rows(rows, power, dead, branches)
    assert [channel for channel, _, _ in copies] == [2, 7, 9]
    total = new.copy()
    for channel, source, scale in copies:
        assert source not in dead and scale > 0
        total[source] += scale * new[channel]
    live = np.setdiff1d(np.arange(10), dead)
    np.testing.assert_allclose(total[live], rows[live], atol=1e-12)
    columns = rows[live].reshape(-1, 6)
    deviation = columns.std(0)
    levels = branch_ops.float_levels(branch_ops.fit_branch_scales(columns / deviation, branches) * deviation)
    for channel in dead:
        assert np.abs(new[channel][None] - levels[:, None]).min(0).max() < 1e-12
    # The errors are what they are called: of the nearest levels, weighted.
    quantized = {c: levels[np.abs(new[c][None] - levels[:, None]).argmin(0), np.arange(6)] for c in range(10)}
    rest = sum(power[c] * ((new[c] - quantized[c]) ** 2).sum() for c in live)
    assert after == pytest.approx(rest / sum(power[c] * (rows[c] ** 2).sum() for c in live), rel=1e-9)
    assert after < before


def test_copies_go_where_the_error_is_and_stop_where_none_is_left():
    rows = np.random.default_rng(3).normal(0, 1, (8, 1, 40))
    dead = np.array([6, 7])
    for heavy in range(6):  # the channel that carries most
        power = np.where(np.arange(8) == heavy, 100.0, 1.0)
        _, copies, _, _ = filling.split_rows(rows, power, dead, 1)
        assert [source for _, source, _ in copies] == [heavy, heavy]
    exact = np.sign(rows) * np.linspace(1, 2, 40)
    new, copies, before, after = filling.split_rows(exact, np.ones(8), dead, 1)
    assert copies == [] and before == after == pytest.approx(0, abs=1e-12)
    np.testing.assert_array_equal(new[:6], exact[:6])


def test_nothing_to_copy():
    rows = np.ones((3, 1, 4))
    new, copies, before, after = filling.split_rows(rows, np.zeros(3), np.arange(3), 1)
    np.testing.assert_array_equal(new, rows)
    assert (copies, before, after) == ([], 0.0, 0.0)


def test_a_kernel_with_taps_and_a_dense_reader():
    x = nets.pictures(32)
    taps = network(reader=L.Conv2D(6, 3, name="read"))
    assert row_of(keras_dbq.fill_dead_channels(taps, x), "read")["filled"] == 3
    assert_equal_outputs(taps, keras_dbq.fill_dead_channels(taps, x).model, nets.pictures(8, seed=1))
    pooled = network(lambda x: L.GlobalAveragePooling2D()(depthwise(x)), reader=L.Dense(6, name="read"))
    assert row_of(keras_dbq.fill_dead_channels(pooled, x), "read")["filled"] == 3
    assert_equal_outputs(pooled, keras_dbq.fill_dead_channels(pooled, x).model, nets.pictures(8, seed=1))


LEFT_ALONE = {
    "relu6": (lambda x: L.ReLU(6.0)(depthwise(x)), "no factor may pass"),
    "addition": (lambda x: L.Add()([depthwise(x), x[:, 1:-1, 1:-1]]), r"\(Add\) is on the way"),
    "multiplier": (
        lambda x: L.DepthwiseConv2D(3, depth_multiplier=2, name="dw")(x),
        r"\(DepthwiseConv2D\) is on the way",
    ),
    "concatenation": (lambda x: _twice(depthwise(x)), r"\(Concatenate\) is on the way"),
    "softmax": (lambda x: depthwise(L.Activation("softmax")(x)), r"\(softmax\) is on the way"),
    "no gamma": (lambda x: L.ReLU()(L.BatchNormalization(scale=False)(L.DepthwiseConv2D(3)(x))), "no factor may pass"),
}


def _twice(x):
    return L.Concatenate()([x, L.ReLU()(x)])


@pytest.mark.parametrize("between, why", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_may_not_be_crossed_is_left_alone(between, why):
    model, x = network(between), nets.pictures(16)
    # Dead inputs of the reader, whatever lies before it.
    result = keras_dbq.fill_dead_channels(model, x)
    row = row_of(result, "read")
    assert row["filled"] == 0
    assert re.search(f"left alone: .*({why})", row["note"]), row["note"]
    kernel = model.get_layer("read").get_weights()[0]
    np.testing.assert_array_equal(result.model.get_layer("read").get_weights()[0], kernel)


def test_bad_input():
    model = network()
    with pytest.raises(ValueError, match="branches: expected an integer from 1 to 3, got 4"):
        keras_dbq.fill_dead_channels(model, nets.pictures(2), branches=4)
    with pytest.raises(ValueError, match="calibration data: expected at least one batch of pictures, got none"):
        keras_dbq.fill_dead_channels(model, nets.pictures(2)[:0])
    with pytest.raises(TypeError, match="fill_dead_channels"):
        keras_dbq.fill_dead_channels("model", nets.pictures(2))


def test_one_branch_of_a_filled_network_is_nearer_to_float():
    reader = L.Conv2D(40, 1, name="read")
    x = nets.pictures(64)
    # Without batch norm, whose statistics are measured anew when the model is quantized.
    model = network(lambda x: x, False, reader, channels=48, dead=tuple(range(0, 48, 2)))
    errors = []
    for source in (model, keras_dbq.fill_dead_channels(model, x).model):
        wanted = _output_of(source, "read", x)
        scheme = keras_dbq.DBQScheme(branches=1, overrides={"make": {"bits": 8}})
        quantized = keras_dbq.quantize_model(source, scheme, calibration_data=x)
        errors.append(np.square(_output_of(quantized, "quant_read", x) - wanted).mean() / np.square(wanted).mean())
    assert errors[1] < 0.3 * errors[0]


def _output_of(model, name, x):
    return keras.Model(model.inputs, model.get_layer(name).output).predict(x, verbose=0)
