"""Rescaling and equalisation: equal outputs, filters of one size, and nothing crossed that may not be."""

import re

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.prepare import rescaling
from tests import nets

L = keras.layers


def network(between, behind=None, activation=None, spread=30.0, filters=6, use_bias=True):
    """Stem, depthwise layer of filters whose sizes differ, `between` on its output, pointwise layer, pooling."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input(nets.SHAPE)
    x = L.Conv2D(filters, 3, activation="relu", name="stem")(inputs)
    y = L.DepthwiseConv2D(3, padding="same", activation=activation, use_bias=use_bias, name="dw")(x)
    y = between(y, x) if between else y
    y = behind(y) if behind else L.Conv2D(5, 1, name="pw")(y)
    model = keras.Model(inputs, L.GlobalAveragePooling2D()(y) if len(y.shape) == 4 else y)
    weights = model.get_layer("dw").get_weights()
    sizes = np.geomspace(1, spread, filters) / spread
    weights[0] = weights[0] / np.abs(weights[0]).max((0, 1)).reshape(1, 1, -1, 1) * sizes.reshape(1, 1, -1, 1)
    if use_bias:
        weights[1] = np.random.default_rng(0).normal(0, 0.1, filters)
    model.get_layer("dw").set_weights(weights)
    return model


def sizes_of(model):
    return np.abs(model.get_layer("dw").get_weights()[0]).max((0, 1)).reshape(-1)


def assert_equal_outputs(model, rescaled, x):
    before = model.predict(x, verbose=0)
    np.testing.assert_allclose(rescaled.predict(x, verbose=0), before, rtol=1e-4, atol=1e-4 * np.abs(before).max())


HOMOGENEOUS = {
    "linear": lambda y, x: y,
    "relu": lambda y, x: L.ReLU()(y),
    "relu and more": lambda y, x: L.MaxPooling2D()(L.Dropout(0.1)(L.ZeroPadding2D()(L.Activation("relu")(y)))),
}


@pytest.mark.parametrize("between", HOMOGENEOUS.values(), ids=HOMOGENEOUS)
@pytest.mark.parametrize("use_bias", [True, False])
def test_without_a_ceiling_all_filters_get_the_largest_size(between, use_bias):
    model, x = network(between, use_bias=use_bias), nets.pictures(32)
    result = keras_dbq.rescale_depthwise(model, x)
    np.testing.assert_allclose(sizes_of(result.model), sizes_of(model).max(), rtol=1e-5)
    assert_equal_outputs(model, result.model, nets.pictures(32, seed=3))
    (row,) = result.table
    assert row["next"] == "pw" and row["spread before"] == pytest.approx(30, rel=1e-4)
    assert row["spread after"] == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("where", ["layer", "own activation"])
def test_relu6_keeps_what_reaches_it(where):
    between = (lambda y, x: L.ReLU(6.0)(y)) if where == "layer" else None
    model = network(between, activation=None if where == "layer" else "relu6", spread=50.0)
    kernel, bias = model.get_layer("dw").get_weights()
    model.get_layer("dw").set_weights([kernel * 8, bias])  # the largest filters reach 6 now
    x = nets.pictures(64)
    result = keras_dbq.rescale_depthwise(model, x, headroom=1.0)
    (row,) = result.table
    assert row["rule"] == "relu6" and 0 < row["locked"] < 6 and row["spread after"] < row["spread before"]
    assert_equal_outputs(model, result.model, x)
    # With some room, pictures that were not measured are safe as well.
    wide = keras_dbq.rescale_depthwise(model, x, headroom=1.5)
    assert_equal_outputs(model, wide.model, nets.pictures(64, seed=9))
    changed = sizes_of(result.model) / sizes_of(model)
    assert (changed[-row["locked"] :] == 1).all() and changed.max() > 1


def test_dense_behind_a_pooled_map():
    model = network(lambda y, x: L.GlobalAveragePooling2D()(L.ReLU()(y)), behind=L.Dense(4, name="pw"))
    result = keras_dbq.rescale_depthwise(model, nets.pictures(8))
    assert result.table.column("rule") == ["relu"]
    assert_equal_outputs(model, result.model, nets.pictures(16, seed=1))


REFUSED = {
    "swish": (lambda y, x: L.Activation("swish")(y), r"activation \(swish\) may not be crossed"),
    "sigmoid": (lambda y, x: L.Activation("sigmoid")(y), r"\(sigmoid\) may not be crossed"),
    "addition": (lambda y, x: L.Add()([y, x]), r"add \(Add\) may not be crossed"),
    "two readers": (lambda y, x: L.Concatenate()([L.ReLU()(y), L.ReLU()(y)]), "several layers read it"),
    "batch norm": (lambda y, x: L.BatchNormalization()(y), r"\(BatchNormalization\) may not be crossed"),
    "leaky": (lambda y, x: L.ReLU(negative_slope=0.1)(y), r"\(ReLU\) may not be crossed"),
}


@pytest.mark.parametrize("function", ["rescale_depthwise", "equalize"])
@pytest.mark.parametrize("between, reason", REFUSED.values(), ids=REFUSED)
def test_what_may_not_be_crossed_is_left_alone(between, reason, function):
    model, x = network(between), nets.pictures(8)
    result = getattr(keras_dbq, function)(model, x)
    (row,) = [row for row in result.table if row["layer"] == "dw"]
    before, after = model.get_layer("pw").get_weights(), result.model.get_layer("pw").get_weights()
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    assert row["next"] == "-"
    assert re.search(reason, row["rule"]), row["rule"]


def test_own_activation_flatten_and_output_are_left_alone():
    for model, reason in (
        (network(None, activation="tanh"), "its activation tanh may not be crossed"),
        (network(lambda y, x: L.Flatten()(y), behind=L.Dense(3)), "flatten (Flatten) may not be crossed"),
    ):
        (row,) = keras_dbq.rescale_depthwise(model, nets.pictures(4)).table
        assert reason in row["rule"].replace("flatten_1", "flatten")
    inputs = keras.Input(nets.SHAPE)
    (row,) = keras_dbq.rescale_depthwise(keras.Model(inputs, L.DepthwiseConv2D(3)(inputs)), nets.pictures(4)).table
    assert "an output of the model" in row["rule"]


def test_factors_equal_the_formula():
    sizes = np.array([0.5, 0.1, 2.0, 0.0, 1.0])
    factors, locked = rescaling.scale_factors(sizes, None)
    np.testing.assert_allclose(factors, [4, 20, 1, 1, 2])
    assert not locked.any()
    reached = np.array([5.95, 0.5, 6.5, 0.0, 3.0])
    factors, locked = rescaling.scale_factors(sizes, reached)
    # Locked: 0 and 2, mean size 1.25; channel 1 would get 12.5 and is capped at 6 / 0.5; channel 3 is dead.
    np.testing.assert_array_equal(locked, [True, False, True, False, False])
    np.testing.assert_allclose(factors, [1, 12, 1, 1, 1.25])
    # No locked channel: the largest filter is the measure, then the cap.
    factors, locked = rescaling.scale_factors(sizes, np.array([1.0, 1.0, 3.0, 1.0, 5.0]))
    np.testing.assert_allclose(factors, [4, 6, 1, 1, 1.2])


@pytest.mark.parametrize("between", HOMOGENEOUS.values(), ids=HOMOGENEOUS)
@pytest.mark.parametrize("use_bias", [True, False])
def test_equalized_filters_are_as_large_as_what_reads_them(between, use_bias):
    model, x = network(between, use_bias=use_bias), nets.pictures(32)
    result = keras_dbq.equalize(model, x, rounds=2)
    assert_equal_outputs(model, result.model, nets.pictures(32, seed=3))
    pointwise = np.abs(result.model.get_layer("pw").get_weights()[0]).max((0, 1, 3))
    ratios = sizes_of(result.model) / pointwise  # the last pair of the last round
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-4)
    rows = {row["layer"]: row for row in result.table}
    assert (rows["stem"]["next"], rows["dw"]["next"], rows["pw"]["next"]) == ("dw", "pw", "-")
    assert rows["dw"]["spread after"] < rows["dw"]["spread before"]


def test_equalizing_respects_the_ceiling_and_silent_filters():
    model = network(lambda y, x: L.ReLU(6.0)(y), spread=50.0)
    kernel, bias = model.get_layer("dw").get_weights()
    kernel, bias = kernel * 8, np.array(bias)
    kernel[:, :, 2], bias[2] = 0, -1.0  # never wakes; whatever reads it is noise
    model.get_layer("dw").set_weights([kernel, bias])
    pointwise, offset = model.get_layer("pw").get_weights()
    pointwise[:, :, 2] *= 1000
    model.get_layer("pw").set_weights([pointwise, offset])
    x = nets.pictures(64)
    result = keras_dbq.equalize(model, x, headroom=1.0)
    row = next(row for row in result.table if row["layer"] == "dw")
    assert row["rule"] == "relu6" and 0 < row["locked"] < 6 and row["dead"] == 1
    assert_equal_outputs(model, result.model, x)
    assert_equal_outputs(model, keras_dbq.equalize(model, x, headroom=1.5).model, nets.pictures(64, seed=9))
    rows = np.abs(result.model.get_layer("pw").get_weights()[0]).max((0, 1, 3))
    assert rows[2] < 5 * np.median(rows)


def test_equalizing_factors_equal_the_formula():
    sizes, reader = np.array([1.0, 4.0, 0.0, 2.0]), np.array([4.0, 1.0, 10.0, 0.0])
    factors, locked = rescaling.equalizing_factors(sizes, reader, None)
    # Alive: 0 and 1, mean sizes 2.5 and 2.5. 2 is silent: 10 / 2.5; 3 is unread: 2.5 / 2.
    np.testing.assert_allclose(factors, [2, 0.5, 4, 1.25])
    assert not locked.any()
    factors, locked = rescaling.equalizing_factors(sizes, reader, np.array([1.0, 6.0, 3.0, 1.0]), headroom=1.2)
    # 1 is locked and the measure (4 and 1); 0: sqrt(4 / (1 / 4)) = 4; 2: 10, capped at 6 / 3.6; 3: 4 / 2.
    np.testing.assert_allclose(factors, [4, 1, 6 / 3.6, 2])
    np.testing.assert_array_equal(locked, [False, True, False, False])
    np.testing.assert_array_equal(rescaling.equalizing_factors(np.zeros(2), np.ones(2), None)[0], [1, 1])


def test_a_whole_network_and_bad_arguments():
    model = keras_dbq.fold_batch_norms(nets.mobilenet_v1())
    x = nets.pictures(32)
    result = keras_dbq.rescale_depthwise(model, x)
    assert [row["layer"] for row in result.table] == ["dw0", "dw1"]
    assert_equal_outputs(model, result.model, x)
    assert "dw0" in str(result.table)
    equalized = keras_dbq.equalize(model, x)
    assert_equal_outputs(model, equalized.model, x)
    assert len(equalized.table) == 6 and "softmax may not be crossed" in str(equalized.table)
    for function in (keras_dbq.rescale_depthwise, keras_dbq.equalize):
        with pytest.raises(ValueError, match="headroom: expected a number from 1"):
            function(model, x, headroom=0.5)
    with pytest.raises(ValueError, match="rounds: expected an integer from 1"):
        keras_dbq.equalize(model, x, rounds=0)
    with pytest.raises(ValueError, match="got NaN"):
        keras_dbq.rescale_depthwise(model, x * np.nan)


def test_equalizing_dense_layers_with_a_ceiling():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12,))
    x = L.Dense(8, activation="relu6", name="a")(inputs)
    model = nets.randomize(keras.Model(inputs, L.Dense(3, name="b")(x)))
    x = nets.pictures(32, shape=(12,))
    result = keras_dbq.equalize(model, x)
    assert [row["rule"] for row in result.table][0] == "relu6"
    assert_equal_outputs(model, result.model, x)
