"""Trained thresholds in quantized models: they train in their intervals, freeze, load, and are what is exported."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.wrapping import wrappers
from tests import nets

INTERVALS = {"factor": (0.5, 1.0), "width": (0.5, 1.0), "shift": (-0.2, 0.4), "threshold_factor": (0.5, 1.0)}


def quantize(make=nets.resnet, symmetric=False):
    keras.utils.set_random_seed(0)
    scheme = keras_dbq.DBQScheme(
        branches=1, activation_ranges="trained", weight_threshold="trained", symmetric=symmetric
    )
    return keras_dbq.quantize_model(make(), scheme, calibration_data=nets.pictures())


def trained(q_model):
    """{kind: [values]} of everything that thresholds are trained by."""
    found = {name: [] for name in INTERVALS}
    for layer in wrappers.all_layers(q_model):
        groups = [w.variables for w in wrappers.quantized_weights(layer)]
        tensor = wrappers.quantized_output(layer)
        for variables in groups + ([tensor.variables] if tensor else []):
            for name in INTERVALS:
                if name in variables:
                    found[name].append(variables[name].numpy())
    return found


def flat(q_model):
    return np.concatenate([np.ravel(v) for values in trained(q_model).values() for v in values])


def fit(q_model, rate=0.1, epochs=2):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # A few batches: tracing a graph would take most of the time.
    q_model.compile(keras.optimizers.Adam(rate), loss, run_eagerly=True)
    q_model.fit(nets.pictures(), np.arange(64) % 3, batch_size=16, epochs=epochs, shuffle=False, verbose=0)


@pytest.mark.parametrize("symmetric", [pytest.param(True, marks=pytest.mark.slow), False])
def test_thresholds_train_inside_their_intervals_and_export_as_trained(symmetric):
    q_model = quantize(symmetric=symmetric)
    start = trained(q_model)
    assert bool(start["factor"]) == symmetric and bool(start["width"]) == bool(start["shift"]) == (not symmetric)
    assert start["threshold_factor"]
    assert all((v == (0 if name == "shift" else 1)).all() for name, values in start.items() for v in values)
    before = flat(q_model)
    fit(q_model)
    assert (flat(q_model) != before).mean() > 0.2  # a factor of 1 may want to grow, and may not
    for name, values in trained(q_model).items():
        low, high = INTERVALS[name]
        assert all(((v >= low) & (v <= high)).all() for v in values), name
    report = keras_dbq.export_tflite(q_model, None, strict=True)
    verification = keras_dbq.verify(q_model, report.data, nets.pictures(32, seed=1))
    assert verification.passed and all(row.keras_largest <= 1 for row in verification.rows if row.keras_codes)
    zero_points = [
        tensor.quantizer.grid(tensor.variables)[1]
        for layer in wrappers.all_layers(q_model)
        if (tensor := wrappers.quantized_output(layer))
    ]
    assert (set(zero_points) <= {0, -128}) == symmetric


@pytest.mark.parametrize("symmetric", [True, False])
def test_untrained_thresholds_are_the_calibrated_extremes(symmetric):
    q_model = quantize(symmetric=symmetric)
    for layer in wrappers.all_layers(q_model):
        tensor = wrappers.quantized_output(layer)
        if tensor is None:
            continue
        low, high = (float(end) for end in tensor.quantizer.range(tensor.variables))
        extremes = float(tensor.variables["low"]), float(tensor.variables["high"])
        if symmetric and not tensor.quantizer.unsigned:
            largest = max(-extremes[0], extremes[1])
            extremes = -largest * 128 / 127, largest
        assert (low, high) == pytest.approx(extremes, rel=1e-6)


@pytest.mark.parametrize(
    "file, parts",
    [("m.keras", ["ranges"]), ("m.keras", ["scales", "ranges"]), ("m.h5", ["ranges", "scales"]), ("m.h5", ["scales"])],
)
def test_frozen_thresholds_stay_through_training_and_loading(tmp_path, file, parts):
    q_model = quantize(nets.sequential)
    fit(q_model, epochs=1)
    for part in parts:
        keras_dbq.freeze(q_model, **{part: True})
    names = [v.name for v in q_model.trainable_weights]
    assert not any("width" in n or "shift" in n for n in names) or "ranges" not in parts
    assert not any("threshold_factor" in n for n in names) or "scales" not in parts
    kept = trained(q_model)
    part_of = {"width": "ranges", "shift": "ranges", "threshold_factor": "scales"}
    held = [name for name, part in part_of.items() if part in parts]
    fit(q_model, epochs=1)
    q_model.save(tmp_path / file)
    loaded = keras.models.load_model(tmp_path / file)
    x = nets.pictures(4, seed=5)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), q_model.predict(x, verbose=0))
    kinds = [[(v.name.rpartition("/")[2], v.shape) for v in m.trainable_weights] for m in (loaded, q_model)]
    assert kinds[0] == kinds[1]
    fit(loaded, epochs=1)
    for name in held:
        for a, b in zip(kept[name], trained(loaded)[name], strict=True):
            np.testing.assert_array_equal(a, b)
    for name in set(part_of) - set(held):
        assert any((a != b).any() for a, b in zip(kept[name], trained(loaded)[name], strict=True))


def test_initialize_starts_again():
    q_model = quantize(nets.sequential)
    start = flat(q_model)
    fit(q_model, epochs=1)
    assert (flat(q_model) != start).any()
    keras_dbq.initialize(q_model, nets.pictures())
    np.testing.assert_array_equal(flat(q_model), start)
