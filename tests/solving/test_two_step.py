"""`solve_ternary`: less error than the fit, exact files, nothing else touched, bad input in one line."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.network import moments
from keras_dbq.solving import Solved, one_layer
from keras_dbq.wrapping import wrappers
from tests import nets

L = keras.layers


def network(norm=True, name="net"):
    keras.utils.set_random_seed(0)
    inputs = x = keras.Input((8, 8, 3))
    for i, (filters, strides) in enumerate(((8, 1), (12, 2), (12, 1))):
        x = L.Conv2D(filters, 3, strides, "same", use_bias=not norm, name=f"conv{i}")(x)
        x = L.BatchNormalization(name=f"norm{i}")(x) if norm else x
        x = L.ReLU(name=f"relu{i}")(x)
    x = L.Dense(10, name="dense", activation="relu")(L.GlobalAveragePooling2D()(x))
    return nets.randomize(keras.Model(inputs, L.Dense(4, name="head")(x), name=name))


X = np.random.default_rng(0).normal(size=(120, 8, 8, 3)).astype(np.float32)


def distance(model, q_model):
    wanted = model.predict(X, verbose=0)
    return float(np.square(q_model.predict(X, verbose=0) - wanted).mean() / np.square(wanted - wanted.mean(0)).mean())


@pytest.mark.parametrize("branches", [1, 2, 3])
@pytest.mark.parametrize("norm", [True, False])
def test_nearer_to_the_float_network_than_the_fit(branches, norm):
    model = network(norm)
    fitted = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(branches), calibration_data=X)
    solved = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(branches, init="two_step"), calibration_data=X)
    assert distance(model, solved) < distance(model, fitted)
    if branches < 3:
        report = keras_dbq.export_tflite(solved, None, strict=True)
        assert keras_dbq.verify(solved, report.data, X[:20], top1_threshold=0).passed


@pytest.mark.parametrize(
    "scheme, norm",
    [
        (lambda init: keras_dbq.FATScheme(bits=2, init=init), True),
        (lambda init: keras_dbq.FATScheme(bits=4, init=init), False),
        (lambda init: keras_dbq.DBQScheme(2, weight_bits=3, init=init), False),
        (lambda init: keras_dbq.DBQScheme(1, weight_bits=4, weight_threshold="trained", init=init), True),
    ],
    ids=["2 bits", "4 bits", "3 bits beside ternary", "4 bits with trained thresholds"],
)
def test_linear_weights_of_few_bits(scheme, norm):
    """Every layer of them is solved: nearer than their rounding; the file holds what was solved."""
    model = network(norm)
    rounded = keras_dbq.quantize_model(model, scheme("least_error"), calibration_data=X)
    solved = keras_dbq.quantize_model(model, scheme("two_step"), calibration_data=X)
    assert distance(model, solved) < 0.7 * distance(model, rounded)
    wanted = solved.predict(X, verbose=0)  # before the export, which rounds biases
    report = keras_dbq.export_tflite(solved, None, strict=True)
    assert keras_dbq.verify(solved, report.data, X[:20], top1_threshold=0).passed
    result = keras_dbq.solve_ternary(rounded, model, X)
    assert set(result.errors) == {"conv0", "conv1", "conv2", "dense", "head"} and not result.left
    assert all(after < before for before, after in result.errors.values())
    np.testing.assert_allclose(rounded.predict(X, verbose=0), wanted, rtol=2e-3, atol=2e-3 * np.abs(wanted).max())


def test_weights_start_solved_where_there_are_enough_pictures():
    model = network()
    many = np.random.default_rng(1).normal(size=(256, 8, 8, 3)).astype(np.float32)
    default, solved, rounded = (
        keras_dbq.quantize_model(model, keras_dbq.FATScheme(init=init), calibration_data=many)
        for init in (None, "two_step", "least_error")
    )
    assert all(map(np.array_equal, default.get_weights(), solved.get_weights()))
    assert distance(model, solved) < distance(model, rounded)
    with pytest.raises(ValueError, match="init: expected one of 'least_error', 'two_step', got 'best'"):
        keras_dbq.FATScheme(init="best")


def test_eight_bits_of_very_many_inputs_stay(monkeypatch):
    model = network()
    kernels = []
    for largest in (8192, 8):
        monkeypatch.setattr(one_layer, "LARGEST", largest)
        q_model = keras_dbq.quantize_model(model, keras_dbq.FATScheme(init="two_step"), calibration_data=X)
        kernels.append(wrappers.quantized_weights(q_model.get_layer("quant_conv2"))[0].variable.numpy())
    rounded = keras_dbq.quantize_model(model, keras_dbq.FATScheme(init="least_error"), calibration_data=X)
    own = wrappers.quantized_weights(rounded.get_layer("quant_conv2"))[0].variable.numpy()
    assert np.array_equal(kernels[1], own) and not np.array_equal(kernels[0], own)


def test_a_batch_norm_that_does_not_fold_beside_those_that_do():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = L.ReLU(name="r0")(L.BatchNormalization(name="n0")(L.Conv2D(8, 3, padding="same", name="c0")(inputs)))
    x = L.BatchNormalization(name="alone")(L.MaxPooling2D(name="pool")(x))
    x = L.ReLU(name="r1")(L.BatchNormalization(name="n1")(L.Conv2D(8, 3, name="c1")(x)))
    model = nets.randomize(keras.Model(inputs, L.Dense(4, name="head")(L.Flatten(name="flat")(x))))
    q_model = keras_dbq.quantize_model(model, keras_dbq.FATScheme(bits=4, init="least_error"), calibration_data=X)
    before = distance(model, q_model)
    assert {"c0", "c1", "head"} <= set(keras_dbq.solve_ternary(q_model, model, X).errors)
    assert distance(model, q_model) < before


def test_of_a_model_whatever_was_done_to_it(capsys):
    """The same as from `quantize_model`, which prints it, and the same twice; the float network stays as it is."""
    model = network()
    before = model.get_weights()
    scheme = keras_dbq.DBQScheme(2, init="two_step")
    wanted = keras_dbq.quantize_model(model, scheme, calibration_data=X, verbose=True).get_weights()
    assert "error after" in capsys.readouterr().out
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(2), calibration_data=X)
    for weight in q_model.trainable_variables:
        if "kernel" in weight.name:
            weight.assign_add(0.1 * np.ones(weight.shape))
    result = keras_dbq.solve_ternary(q_model, model, X)
    for a, b in zip(wanted, q_model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
    assert set(result.errors) == {"conv1", "conv2", "dense"} and not result.left
    assert all(after < before for before, after in result.errors.values())
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert "conv1" in str(result) and "error after" in str(result)


def test_layers_that_are_left_say_why():
    inputs = keras.Input((8, 8, 4))
    shared = L.Conv2D(4, 3, padding="same", name="shared")
    x = L.Conv2D(4, 3, name="whole")(shared(shared(inputs)))
    model = nets.randomize(keras.Model(inputs, L.Conv2D(3, 1, name="last")(x)))
    x = np.random.default_rng(0).normal(size=(20, 8, 8, 4)).astype(np.float32)
    overrides = {"whole": {"per_channel": False}}
    scheme = keras_dbq.DBQScheme(1, ternary_first=True, ternary_last=True, overrides=overrides)
    q_model = keras_dbq.quantize_model(model, scheme, calibration_data=x)
    result = keras_dbq.solve_ternary(q_model, model, x)
    assert result.left == {"shared": "called several times", "whole": "one scale for all channels"}
    assert list(result.errors) == ["last"] and "called several times" in str(result)


def test_batch_norm_behind_layers_that_are_left():
    """One shared pair of convolution and batch norm: its codes stay, its statistics follow them."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3))
    conv, norm = L.Conv2D(16, 3, padding="same", use_bias=False, name="shared"), L.BatchNormalization(name="norm")
    x = L.ReLU(name="r")(L.BatchNormalization(name="n")(L.Conv2D(16, 3, padding="same", name="first")(inputs)))
    for number in range(3):
        x = L.ReLU(name=f"r{number}")(norm(conv(x)))
    model = keras.Model(inputs, L.Dense(5, name="head")(L.GlobalAveragePooling2D(name="pool")(x)))
    pictures = np.random.default_rng(0).normal(size=(64, 12, 12, 3)).astype(np.float32)
    for _ in range(60):
        model(pictures, training=True)
    wanted = model.predict(pictures, verbose=0)

    def error(init):
        q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(1, init=init), calibration_data=pictures)
        return np.square(q_model.predict(pictures, verbose=0) - wanted).mean() / wanted.var()

    assert error("two_step") < 0.7 * error("least_error")


def test_every_kind_of_layer():
    """Depthwise, grouped, strided, dilated, 1x1 and Dense layers: each has less error than the fit, and packs."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 4))
    x = L.Conv2D(8, 3, padding="same", name="first")(inputs)
    x = L.ReLU()(L.DepthwiseConv2D(3, 2, "same", depth_multiplier=2, name="depthwise")(x))
    x = L.ReLU()(L.Conv2D(8, 3, groups=2, padding="same", name="grouped")(x))
    x = L.ReLU()(L.Conv2D(8, 3, 2, "same", name="strided")(x))
    x = L.ReLU()(L.Conv2D(8, 3, dilation_rate=2, padding="same", name="dilated")(x))
    x = L.ReLU()(L.Conv2D(12, 1, name="pointwise")(x))
    x = L.ReLU()(L.Dense(16, name="dense")(L.Flatten()(x)))
    model = nets.randomize(keras.Model(inputs, L.Dense(4, name="head")(x)))
    pictures = np.random.default_rng(0).normal(size=(60, 12, 12, 4)).astype(np.float32)
    scheme = keras_dbq.DBQScheme(2, ternary_depthwise=True, overrides={"grouped": {"branches": 2}})
    q_model = keras_dbq.quantize_model(model, scheme, calibration_data=pictures)
    result = keras_dbq.solve_ternary(q_model, model, pictures)
    assert set(result.errors) == {"depthwise", "grouped", "strided", "dilated", "pointwise", "dense"}
    assert not result.left and all(after < before for before, after in result.errors.values())
    report = keras_dbq.export_tflite(q_model, None)  # grouped convolutions have codes, but no packed form
    assert keras_dbq.verify(q_model, report.data, pictures[:20], top1_threshold=0).passed


def test_a_killed_run_goes_on_after_the_last_finished_layer(tmp_path, monkeypatch):
    model, solve, solved = network(), one_layer.solve_layer, []

    def killed(layer, *arguments):
        if len(solved) == 2:
            raise KeyboardInterrupt
        solved.append(layer.name)
        return solve(layer, *arguments)

    def q_model():
        return keras_dbq.quantize_model(model, keras_dbq.DBQScheme(2), calibration_data=X)

    whole, parts = q_model(), q_model()
    wanted = keras_dbq.solve_ternary(whole, model, X)
    monkeypatch.setattr(one_layer, "solve_layer", killed)
    with pytest.raises(KeyboardInterrupt):
        keras_dbq.solve_ternary(parts, model, X, workdir=tmp_path / "work")
    monkeypatch.setattr(one_layer, "solve_layer", lambda layer, *a: solved.append(layer.name) or solve(layer, *a))
    again = q_model()
    assert keras_dbq.solve_ternary(again, model, X, workdir=tmp_path / "work").errors == wanted.errors
    assert solved == [f"quant_{name}" for name in ("conv0", "conv1", "conv2", "dense", "head")]
    assert all(np.array_equal(a, b) for a, b in zip(whole.get_weights(), again.get_weights(), strict=True))
    with pytest.raises(ValueError, match="expected a run with the same settings, got one with another seed"):
        keras_dbq.solve_ternary(again, model, X, workdir=tmp_path / "work", seed=1)


def test_seed_chooses_the_positions(monkeypatch):
    monkeypatch.setattr(moments, "POSITIONS", 300)
    model = network()
    kernels = []
    for seed in (0, 0, 1):
        q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(1), calibration_data=X)
        keras_dbq.solve_ternary(q_model, model, X, seed=seed)
        kernels.append(keras_dbq.get_ternary_weights(q_model.get_layer("quant_conv2")).codes)
    assert np.array_equal(kernels[0], kernels[1]) and not np.array_equal(kernels[0], kernels[2])


def test_bad_input():
    model = network()
    with pytest.raises(ValueError, match="init='two_step' expects calibration_data, about 1,000 pictures, got none"):
        keras_dbq.quantize_model(model, keras_dbq.DBQScheme(init="two_step"))
    with pytest.raises(ValueError, match="init: expected one of 'least_error', 'two_step', got 'best'"):
        keras_dbq.DBQScheme(init="best")
    fat = keras_dbq.quantize_model(model, keras_dbq.FATScheme(), calibration_data=X)
    with pytest.raises(ValueError, match="expected a model with ternary layers, got none"):
        keras_dbq.solve_ternary(fat, model, X)
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(1), calibration_data=X)
    other = nets.randomize(keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(8, 3, name="conv0")]))
    with pytest.raises(ValueError, match="expected the float network that the quantized model was made of"):
        keras_dbq.solve_ternary(q_model, other, X)
    with pytest.raises((TypeError, ValueError), match="solve_ternary"):
        keras_dbq.solve_ternary(model, model, X)


def test_solved_prints_as_a_table():
    assert "0.2500" in str(Solved({"a": (0.5, 0.25)}))


def test_batch_norms_that_do_not_hold_the_statistics_of_the_data():
    """As after folding them and building the network anew: mean 0, variance 1, whatever the layers give."""
    keras.utils.set_random_seed(0)
    inputs = x = keras.Input((12, 12, 3))
    for number, width in enumerate((8, 16, 16)):
        x = L.Conv2D(width, 3, use_bias=False, name=f"c{number}")(x)
        x = L.ReLU(name=f"r{number}")(L.BatchNormalization(name=f"n{number}")(x))
    model = keras.Model(inputs, L.Dense(4, name="head")(L.GlobalAveragePooling2D(name="pool")(x)))
    pictures = (5 * np.random.default_rng(0).normal(size=(64, 12, 12, 3)) + 2).astype(np.float32)
    wanted = model.predict(pictures, verbose=0)
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(2, init="two_step"), calibration_data=pictures)
    assert np.square(q_model.predict(pictures, verbose=0) - wanted).mean() < 0.2 * wanted.var()


def test_one_threshold_for_all_channels():
    model, pictures = network(), nets.pictures(300, shape=(8, 8, 3))
    q_models = [
        keras_dbq.quantize_model(model, keras_dbq.FATScheme(mode="scalar", init=init), calibration_data=pictures)
        for init in (None, "least_error")
    ]
    solved, rounded = (distance(model, q_model) for q_model in q_models)
    assert solved < rounded
