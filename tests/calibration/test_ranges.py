"""Calibration: estimators against numpy, streaming, errors; and what they do to a model."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq import calibration
from keras_dbq.calibration import ranges
from keras_dbq.compat import keras, tf
from keras_dbq.ops import activations as activation_ops
from keras_dbq.quantizers import ActivationQuantizer
from keras_dbq.wrapping import wrappers
from tests import nets


def observed(method, batches, **quantizer):
    """(low, high) that an estimator finds in a list of arrays."""
    observer = calibration.estimator(method).observer("x", ActivationQuantizer(**quantizer))
    for batch in batches:
        observer.update(np.asarray(batch, np.float32))
    return observer.range()


@pytest.fixture(scope="module")
def values():
    """Heavy tails, off centre, in batches that grow."""
    rng = np.random.default_rng(0)
    return [(0.3 + rng.standard_t(4, (200, 50)) * size).astype(np.float32) for size in (0.5, 1, 2)]


def test_extremes(values):
    everything = np.concatenate(values)
    assert observed("max", values) == (everything.min(), everything.max())
    assert observed("max", [np.ones(3)], unsigned=True) == (0, 1)
    assert observed("max", [-np.ones(3)]) == (-1, ranges.SMALLEST)


def test_moving_average(values):
    low, high = values[0].min(), values[0].max()
    for batch in values[1:]:
        low, high = 0.7 * low + 0.3 * batch.min(), 0.7 * high + 0.3 * batch.max()
    assert observed(calibration.MovingAverage(0.7), values) == pytest.approx((low, high), rel=1e-6)
    assert observed("moving_average", values[:1]) == (values[0].min(), values[0].max())


@pytest.mark.parametrize("percent", [99.0, 99.9])
def test_percentile(values, percent):
    everything = np.concatenate(values)
    low, high = observed(calibration.Percentile(percent), values)
    few = 5 / everything.size  # a bin holds a few values
    assert np.mean(everything <= high) == pytest.approx(percent / 100, abs=few)
    assert np.mean(everything < low) == pytest.approx(1 - percent / 100, abs=few)
    assert observed(calibration.Percentile(100.0), values) == (everything.min(), everything.max())


def test_a_histogram_does_not_depend_on_the_order_of_the_batches(values):
    for method in ("percentile", "mse"):
        assert observed(method, values) == observed(method, values[::-1])


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_least_squared_error(values, symmetric, bits):
    """No range on a grid of candidates has a smaller error on the values themselves (beyond the histogram's bins)."""
    everything = np.concatenate(values)
    quantizer = ActivationQuantizer(bits=bits, symmetric=symmetric)

    def error(low, high):
        low, high = quantizer.bounds(low, high)
        return float(np.mean((activation_ops.fake_quant(everything, low, high, bits).numpy() - everything) ** 2))

    found = observed("mse", values, bits=bits, symmetric=symmetric)
    best = error(*found)
    low, high = everything.min(), everything.max()
    fractions = np.linspace(0.05, 1, 20)
    tried = [(a * low, a * high) for a in fractions] if symmetric else [(a * low, b * high) for a in fractions
                                                                        for b in fractions]  # fmt: skip
    assert best <= min(error(*pair) for pair in tried) * 1.02
    assert best < error(low, high)


def test_estimators_refuse_bad_arguments():
    with pytest.raises(ValueError, match="calibration: expected one of 'max', 'moving_average', 'percentile', 'mse'"):
        calibration.estimator("median")
    with pytest.raises(ValueError, match="percent: expected a number"):
        calibration.Percentile(50.0)
    with pytest.raises(ValueError, match="decay: expected a number"):
        calibration.MovingAverage(1.0)
    with pytest.raises(ValueError, match="steps: expected an integer"):
        calibration.MeanSquaredError(1)


@pytest.mark.slow
def test_methods_change_the_ranges_of_a_model_and_all_export_exactly():
    model, x = nets.mobilenet_v1(), nets.pictures(64)
    found = {}
    for method in ("max", "moving_average", calibration.Percentile(99.0), "mse"):
        q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(activation_bits=6), x, calibration=method)
        tensors = [t for layer in wrappers.all_layers(q_model) if (t := wrappers.quantized_output(layer))]
        found[str(method)] = [float(t.variables["high"]) for t in tensors]
        assert keras_dbq.verify(q_model, keras_dbq.export_tflite(q_model, None, "int8").data, x[:8]).passed
    widest = np.array(found.pop("max"))
    for highs in found.values():
        assert (np.array(highs) <= widest + 1e-6).all() and (np.array(highs) < widest).any()


def test_weight_thresholds_start_at_the_least_squared_error():
    model, x = nets.mobilenet_v1(), nets.pictures(16)
    errors = {}
    for method in ("max", "mse"):
        q_model = keras_dbq.quantize_model(model, keras_dbq.FATScheme(bits=3), calibration_data=x)
        errors[method] = keras_dbq.initialize(q_model, x, calibration=method)
    assert all(errors["mse"][name] <= errors["max"][name] for name in errors["max"])
    assert sum(errors["mse"].values()) < 0.9 * sum(errors["max"].values())


class Counting:
    """An iterable of batches that is never held in memory as a whole, and counts how often it is read."""

    def __init__(self, x, size):
        self.x, self.size, self.passes = x, size, 0

    def __iter__(self):
        self.passes += 1
        return (self.x[i : i + self.size] for i in range(0, len(self.x), self.size))


def test_batches_have_one_size_whatever_comes_and_generators_are_kept():
    model, x = nets.mobilenet_v1(), nets.pictures(120)
    forms = [x, Counting(x, 7), Counting(x, 77), iter(Counting(x, 33)), tf.data.Dataset.from_tensor_slices(x).batch(9)]
    for data in forms:
        batches = calibration.Batches(data, model)
        assert batches.pictures == 120
        for _ in range(2):
            read = list(batches)
            assert [len(batch[0]) for batch in read] == [50, 50, 20]
            np.testing.assert_array_equal(np.concatenate([batch[0] for batch in read]), x)
    assert forms[1].passes == 3  # once to look at it, twice above: nothing was kept


def test_generators_of_several_inputs_are_kept():
    inputs = [keras.Input((4,)), keras.Input((2,))]
    model = keras.Model(inputs, keras.layers.Concatenate()(inputs))
    a, b = np.zeros((60, 4), np.float32), np.ones((60, 2), np.float32)
    batches = calibration.Batches(((a[i : i + 8], b[i : i + 8]) for i in range(0, 60, 8)), model)
    for _ in range(2):
        assert [[tuple(t.shape) for t in batch] for batch in batches] == [[(50, 4), (50, 2)], [(10, 4), (10, 2)]]


def test_an_endless_dataset_is_refused_before_anything_changes():
    model, x = nets.mobilenet_v1(), nets.pictures(16)
    with pytest.raises(ValueError, match=r"expected a data set that ends, got an endless one; use take\(n\)"):
        calibration.Batches(tf.data.Dataset.from_tensor_slices(x).batch(4).repeat(), model)
    q_model = keras_dbq.quantize_model(model, keras_dbq.FATScheme(), calibration_data=x)
    before = q_model.get_weights()
    bad = [x[:8], np.where(np.arange(8)[:, None, None, None] == 5, np.nan, x[:8])]
    for data in (bad, [x, x[:0]]):
        with pytest.raises(ValueError, match="calibration data: expected"):
            keras_dbq.initialize(q_model, data)
    for a, b in zip(before, q_model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_activations_that_are_no_numbers_are_an_error_that_names_the_layer():
    model = nets.mobilenet_v1()
    kernel = model.get_layer("pw0").kernel
    kernel.assign(tf.fill(kernel.shape, np.inf))
    with pytest.raises(ValueError, match="layer '.*': expected finite activations in calibration, got NaN or infinity"):
        keras_dbq.quantize_model(model, keras_dbq.FATScheme(), calibration_data=nets.pictures(8))


def test_progress_is_shown_on_request(capsys):
    model, x = nets.mobilenet_v1(), nets.pictures(60)
    list(calibration.Batches(x, model, progress=True).read("ranges"))
    shown = capsys.readouterr().out
    assert "calibration, 60 pictures: ranges" in shown and "60/60" in shown
    list(calibration.Batches(x, model, progress=False).read("ranges"))
    assert capsys.readouterr().out == ""
