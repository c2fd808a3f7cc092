"""Operators of integers: the trained integers and grids, requantized inputs, channels at their limits."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.wrapping import naming, wrappers
from tests import nets
from tests.export.oracle import expected, kernels, operators, quantized

L = keras.layers


@pytest.fixture(scope="module")
def q_resnet():
    return quantized(nets.resnet, branches=2)


def test_concatenation_of_ranges_is_requantized_not_reinterpreted():
    inputs = keras.Input(nets.SHAPE)
    a = L.Conv2D(4, 1, name="a", activation="relu")(inputs)
    b = L.Conv2D(4, 1, name="b")(a)
    x = L.Concatenate(name="join")([L.MaxPooling2D(2)(a), L.MaxPooling2D(2)(b)])
    q_model = quantized(keras.Model(inputs, L.Conv2D(3, 1, name="c")(x)))
    report = keras_dbq.export_tflite(q_model, None, strict=True)
    assert "QUANTIZE" in operators(report.data) and any("requantized" in f for f in report.findings)
    verification = keras_dbq.verify(q_model, report.data, nets.pictures(8), top1_threshold=0)
    assert max(row.keras_largest for row in verification.rows) <= 2


def test_a_mean_of_one_pixel_is_a_second_grid_of_its_input():
    """The converter drops the mean: one pair of QUANTIZE and DEQUANTIZE follows the other."""
    inputs = keras.Input(nets.SHAPE)
    gate = L.GlobalAveragePooling2D(keepdims=True)(L.Conv2D(4, 1, name="a", activation="relu")(inputs))
    gate = L.Conv2D(4, 1, activation="sigmoid", name="b")(gate)
    x = L.Conv2D(4, 1, name="c")(L.GlobalAveragePooling2D(keepdims=True)(gate))
    q_model = quantized(keras.Model(inputs, L.Multiply()([gate, x])))
    report = keras_dbq.export_tflite(q_model, None, strict=True)
    assert any("requantized" in f for f in report.findings)
    verification = keras_dbq.verify(q_model, report.data, nets.pictures(8), top1_threshold=0)
    assert verification.passed and max(row.keras_largest for row in verification.rows) <= 1
    assert "global_average_pooling2d_1" in [row.name for row in verification.rows if row.keras_codes]


@pytest.mark.parametrize("kind", ["Maximum", "Minimum", "GlobalMaxPooling2D"])
def test_layers_that_select_values(kind):
    inputs = keras.Input(nets.SHAPE)
    a = L.Conv2D(8, 3, name="a")(inputs)
    b = L.Conv2D(8, 3, name="b")(inputs)
    x = L.GlobalMaxPooling2D()(a) if kind == "GlobalMaxPooling2D" else L.Flatten()(getattr(L, kind)()([a, b]))
    q_model = quantized(keras.Model(inputs, L.Dense(4, name="head")(x)))
    report = keras_dbq.export_tflite(q_model, None, strict=True)
    verification = keras_dbq.verify(q_model, report.data, nets.pictures(32))
    assert verification.passed and max(row.keras_largest for row in verification.rows) <= 2


def test_activations_are_on_the_models_grids(q_resnet):
    data = keras_dbq.export_tflite(q_resnet, None, "int8").data
    model = fb.load_model(data)
    found = {fb.text(t.name): (fb.scales_of(t), fb.zero_points_of(t)) for t in model.subgraphs[0].tensors}
    for tensor in naming.quantized_outputs(q_resnet):
        scale, zero_point = found[tensor.name]
        assert (scale[0], zero_point[0]) == (tensor.scale, tensor.zero_point), tensor.name


def test_a_channel_without_its_top_level_keeps_integers_and_scale(q_resnet):
    # The stock converter would give this channel the scale max|w| / 127.
    layer = next(la for la in q_resnet.layers if wrappers.inner(la).name == "a1")
    weight = wrappers.quantized_weights(layer)[0]
    kept = weight.variable.numpy()
    try:
        alpha = weight.variables["branch_scales"].numpy()[:, 0] * weight.variables["post_scale"].numpy()[0]
        kernel = kept.copy()
        kernel[..., 0] = np.where(np.arange(kernel[..., 0].size).reshape(kernel[..., 0].shape) % 2, 0, alpha[1])
        weight.variable.assign(kernel)
        values = keras_dbq.integer_weights(layer).values[..., 0]
        assert 0 < np.abs(values).max() < 127
        found = kernels(keras_dbq.export_tflite(q_resnet, None, "int8", round_model_biases=False).data)["a1"]
        assert np.abs(found[0][:, 0]).max() == np.abs(values).max()
        integers, scale, _ = expected(nets.resnet(), q_resnet)["a1"]
        np.testing.assert_array_equal(found[0], integers)
        np.testing.assert_allclose(found[1], scale, rtol=2e-7)
    finally:
        weight.variable.assign(kept)


def test_gamma_of_zero_gives_zeros_and_a_positive_scale():
    model = nets.mobilenet_v1()
    norm = next(la for la in model.layers if isinstance(la, L.BatchNormalization) and la.name == "pw1_bn")
    gamma, *rest = norm.get_weights()
    gamma[3] = 0.0
    norm.set_weights([gamma, *rest])
    q_model = quantized(model, branches=1)
    data = keras_dbq.export_tflite(q_model, None, strict=True).data
    assert keras_dbq.verify(q_model, data, nets.pictures(8)).passed
    weights, scale, _, _ = kernels(keras_dbq.export_tflite(q_model, None, "int8").data)["pw1"]
    assert not weights[:, 3].any() and scale[3] > 0


@pytest.mark.parametrize("bits", [2, 4])
def test_fewer_bits_are_exact_integers(bits):
    model = nets.sequential()
    q_model = quantized(model, overrides={"stem": {"bits": bits, "branches": 0}})
    found = kernels(keras_dbq.export_tflite(q_model, None, "int8").data)["stem"]
    np.testing.assert_array_equal(found[0], expected(model, q_model)["stem"][0])
    assert np.abs(found[0]).max() == 2 ** (bits - 1) - 1
