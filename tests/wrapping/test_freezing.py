"""Freezing: what is frozen leaves the trainable weights and stays as it is, in memory and in files."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.wrapping import lookup
from tests.wrapping import tiny

FILES = ("m.keras", "m.h5")
PARTS = ("weights", "scales", "ranges")
TRAINED = {"activation_ranges": "trained", "weight_threshold": "trained"}


def values(q_model, part):
    """Arrays of that part of all layers."""
    found = []
    for layer in q_model.layers:
        for weight in lookup.quantized_weights(layer):
            names = {"scales": ("branch_scales", "thresholds", "threshold_factor")}.get(part, ())
            found += [v.numpy() for name, v in weight.variables.items() if name in names]
            found += [weight.variable.numpy()] if part == "weights" else []
        output = lookup.quantized_output(layer)
        if output and part == "ranges":
            found += [np.array([v.numpy() for v in output.variables.values()])]
    return found


def same(a, b):
    return [np.array_equal(x, y) for x, y in zip(a, b, strict=True)]


def reloaded(q_model, path):
    q_model.save(path)
    return keras.models.load_model(path)


@pytest.mark.parametrize("options", [{}, TRAINED], ids=["moving ranges", "trained thresholds"])
@pytest.mark.parametrize("part", PARTS)
def test_freeze_holds_values_through_training_and_loading(part, options, tmp_path):
    q_model = tiny.quantized(**options)
    before = values(q_model, part)
    tiny.fit(q_model)
    assert not all(same(before, values(q_model, part)))  # it moves without a freeze
    assert keras_dbq.freeze(q_model, **{part: True}) is q_model
    before = {name: values(q_model, name) for name in PARTS}
    tiny.fit(q_model)
    for name in PARTS:
        assert all(same(before[name], values(q_model, name))) == (name == part), name
    for file in FILES:
        loaded = reloaded(q_model, tmp_path / file)
        x = tiny.pictures(4, seed=5)
        np.testing.assert_array_equal(loaded.predict(x, verbose=0), q_model.predict(x, verbose=0))
        assert tiny.short_names(loaded.trainable_weights) == tiny.short_names(q_model.trainable_weights)
        before_loaded = values(loaded, part)
        tiny.fit(loaded)
        assert all(same(before_loaded, values(loaded, part)))


def test_the_order_of_freezing_does_not_change_the_order_of_weights(tmp_path):
    orders = []
    for order in (PARTS, PARTS[::-1], ("scales", "ranges", "weights")):
        q_model = tiny.quantized(**TRAINED)
        for part in order:
            keras_dbq.freeze(q_model, **{part: True})
        orders.append((tiny.short_names(q_model.weights), tiny.short_names(q_model.trainable_weights)))
    assert all(order == orders[0] for order in orders)
    assert set(orders[0][1]) == {"gamma:0", "beta:0"}
    # Loading, and freezing on, gives the same order as well.
    q_model = tiny.quantized(**TRAINED)
    for part in PARTS:
        q_model = reloaded(keras_dbq.freeze(q_model, **{part: True}), tmp_path / f"{part}.keras")
    assert (tiny.short_names(q_model.weights), tiny.short_names(q_model.trainable_weights)) == orders[0]


def test_every_weight_is_listed_once():
    q_model = tiny.quantized(**TRAINED)
    every = {id(v) for v in q_model.weights}
    for parts in ([], ["scales"], ["ranges"], ["weights"]):
        if parts:
            keras_dbq.freeze(q_model, **dict.fromkeys(parts, True))
        assert {id(v) for v in q_model.weights} == every and len(q_model.weights) == len(every)
        names = [v.name for layer in q_model.layers for v in layer.weights]
        assert len(names) == len(every)


def test_a_bias_is_frozen_with_its_kernel():
    q_model = keras_dbq.freeze(tiny.quantized(), weights=True, layers="stem")
    trained = {v.name for v in q_model.trainable_weights}
    assert not {name for name in trained if "stem" in name}
    assert any("head/bias" in name for name in trained) and any("head/kernel" in name for name in trained)
    bias = q_model.get_layer("quant_stem").layer.bias
    before = bias.numpy()
    tiny.fit(q_model)
    np.testing.assert_array_equal(bias.numpy(), before)


@pytest.mark.parametrize("file", FILES)
def test_a_batch_norm_in_a_wrapper_is_frozen(file, tmp_path):
    """0.1 went on training its gamma and beta, and could not load the saved model."""
    q_model = keras_dbq.freeze(tiny.quantized(), batch_norm=True)
    layer = q_model.get_layer("quant_norm")
    assert not {"gamma:0", "beta:0"} & set(tiny.short_names(q_model.trainable_weights))
    before = [v.numpy() for v in layer.layer.weights]
    tiny.fit(q_model)
    assert len(before) == 4 and all(same(before, [v.numpy() for v in layer.layer.weights]))
    loaded = reloaded(q_model, tmp_path / file)
    assert tiny.short_names(loaded.weights) == tiny.short_names(q_model.weights)
    assert all(same(q_model.get_weights(), loaded.get_weights()))


@pytest.mark.parametrize("file", FILES)
def test_frozen_weights_load_in_mixed_precision(file, tmp_path):
    """0.1 could not load the .keras file."""
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        q_model = keras_dbq.freeze(tiny.quantized(), weights=True)
        loaded = reloaded(q_model, tmp_path / file)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert tiny.short_names(loaded.trainable_weights) == tiny.short_names(q_model.trainable_weights)
    assert all(same(q_model.get_weights(), loaded.get_weights()))


def test_named_layers_only():
    q_model = keras_dbq.freeze(tiny.quantized(), weights=True, batch_norm=True, layers=["middle", "norm"])
    trained = {v.name for v in q_model.trainable_weights}
    assert not {name for name in trained if name.startswith(("middle/kernel", "norm/"))}
    assert {name for name in trained if name.startswith("stem/kernel")}


def test_freeze_errors():
    with pytest.raises(ValueError, match="expected at least one of weights, scales, ranges, batch_norm"):
        keras_dbq.freeze(tiny.quantized())
    with pytest.raises(ValueError, match=r"got unknown \['nothing'\]"):
        keras_dbq.freeze(tiny.quantized(), weights=True, layers="nothing")
    with pytest.raises(ValueError, match="freeze: model 'tiny' has no quantized layer"):
        keras_dbq.freeze(tiny.network(), weights=True)
    with pytest.raises(ValueError, match="frozen: expected one of 'weights', 'scales', got 'weight'"):
        keras_dbq.quantizers.TernaryBranchQuantizer(frozen=("weight",))
