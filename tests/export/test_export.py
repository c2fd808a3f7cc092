"""Keras -> file: the integers in the file are the integers that were trained, and nothing stays float."""

import dataclasses
import json

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.export.integerize import Kernel, fit_bias
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.wrapping import naming, wrappers
from tests import nets

L = keras.layers


def quantized(build, **options):
    keras.utils.set_random_seed(0)
    model = build if isinstance(build, keras.Model) else build()
    return keras_dbq.quantize_model(model, keras_dbq.DBQScheme(**options), calibration_data=nets.pictures())


@pytest.fixture(scope="module")
def q_resnet():
    return quantized(nets.resnet, branches=2)


def operators(data):
    model = fb.load_model(data)
    return [fb.op_name(model, operator) for operator in model.subgraphs[0].operators]


def kernels(data):
    """{layer name: (int8 weights [K, M], float32 scales [M], int32 bias [M], input scale)} of an int8 file."""
    model, found = fb.load_model(data), {}
    tensors = model.subgraphs[0].tensors
    for operator in model.subgraphs[0].operators:
        axis = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}.get(fb.op_name(model, operator))
        if axis is not None:
            kernel = tensors[operator.inputs[1]]
            weights = np.moveaxis(fb.constant(model, int(operator.inputs[1])), axis, -1)
            weights = weights.reshape(-1, weights.shape[-1])
            scale = np.broadcast_to(fb.scales_of(kernel), weights.shape[1])
            bias = fb.constant(model, int(operator.inputs[2]))
            name = fb.text(tensors[operator.outputs[0]].name)
            found[name] = (weights, scale, bias, fb.scales_of(tensors[operator.inputs[0]])[0])
    return found


def trained(q_model):
    """{layer name: (signed integers [K, M], scales [M], real bias [M])}, batch norm folded by its definition."""
    batch_norms, result = naming.folds(q_model), {}
    for layer in q_model.layers:
        if not wrappers.quantized_weights(layer):
            continue
        inner, integers = wrappers.inner(layer), keras_dbq.integer_weights(layer)
        channels = len(integers.scale)
        bias = inner.bias.numpy().astype(float) if inner.use_bias else np.zeros(channels)
        factor = np.ones(channels)
        if id(layer) in batch_norms:
            norm = wrappers.inner(batch_norms[id(layer)])
            gamma, beta, mean, variance = (np.float64(w) for w in norm.get_weights())
            factor = gamma / np.sqrt(variance + norm.epsilon)
            bias = beta + factor * (bias - mean)
        values = integers.values.reshape(-1, channels) * np.sign(factor).astype(np.int8)
        result[inner.name] = (values, (integers.scale * np.abs(factor)).astype(np.float32), bias)
    return result


@pytest.mark.parametrize(
    "build, branches",
    [(nets.mobilenet_v1, 1), (nets.separable, 2), (nets.nested, 1)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_file_holds_the_trained_integers(build, branches):
    q_model = quantized(build, branches=branches)
    expected = trained(q_model)
    report = keras_dbq.export_tflite(q_model, None, "int8", strict=True, round_model_biases=False)
    found = kernels(report.data)
    assert set(expected) == {name for name in found if "pooling" not in name}
    for name, (values, scale, bias) in expected.items():
        weights, file_scale, file_bias, input_scale = found[name]
        np.testing.assert_array_equal(weights, values, err_msg=name)
        np.testing.assert_allclose(file_scale, scale, rtol=2e-7, err_msg=name)
        np.testing.assert_array_equal(
            file_bias, np.rint(bias / (np.float64(input_scale) * np.float64(file_scale))), err_msg=name
        )
    ternary = [row for row in report.layers if row.branches]
    assert ternary and all(row.branches <= branches and row.encoding == "int8" for row in ternary)


@pytest.mark.parametrize("build", nets.ALL, ids=lambda f: f.__name__)
def test_every_net_is_integer_from_end_to_end(build):
    q_model = quantized(build, branches=2)
    report = keras_dbq.export_tflite(q_model, None, "int8", strict=True)
    assert not {"DEQUANTIZE", "SHAPE"} & set(operators(report.data))
    model = fb.load_model(report.data)
    ends = [*model.subgraphs[0].inputs, *model.subgraphs[0].outputs]
    assert all(model.subgraphs[0].tensors[i].type == fb.schema.TensorType.INT8 for i in ends)
    names = [fb.text(tensor.name) for tensor in model.subgraphs[0].tensors]
    assert len(set(names)) == len(names) and not any(";" in name for name in names)
    packed = keras_dbq.export_tflite(q_model, None, strict=True)
    verification = keras_dbq.verify(
        q_model, packed.data, nets.pictures(32, seed=1), int8_file=report.data, top1_threshold=0.9
    )
    assert verification.passed and verification.output_interpreter == 0 and verification.output_int8 == 0


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
        expected = trained(q_resnet)["a1"]
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_allclose(found[1], expected[1], rtol=2e-7)
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
    q_model = quantized(nets.sequential, overrides={"stem": {"bits": bits, "branches": 0}})
    found = kernels(keras_dbq.export_tflite(q_model, None, "int8").data)["stem"]
    np.testing.assert_array_equal(found[0], trained(q_model)["stem"][0])
    assert np.abs(found[0]).max() == 2 ** (bits - 1) - 1


def test_float_layers_are_named_and_strict_refuses_them():
    q_model = quantized(nets.sequential, overrides={"middle": {"skip": True}})
    report = keras_dbq.export_tflite(q_model, None)
    assert any("CONV_2D 'middle': its weights are not quantized" in finding for finding in report.findings)
    assert "! float: CONV_2D 'middle'" in str(report)
    assert next(row for row in report.layers if row.name == "middle").encoding == "float32"
    with pytest.raises(
        ValueError, match="strict: expected integers between input and output, .* 'middle': its weights"
    ):
        keras_dbq.export_tflite(q_model, None, strict=True)
    with pytest.raises(ValueError, match="export a full-integer file"):
        keras_dbq.verify(q_model, report.data, nets.pictures(2))


def test_strict_refuses_three_branches():
    q_model = quantized(nets.sequential, branches=3)
    with pytest.raises(
        ValueError, match="strict: expected every ternary layer packed, 1 are not .middle: .* two branches"
    ):
        keras_dbq.export_tflite(q_model, None, strict=True)
    report = keras_dbq.export_tflite(q_model, None)
    assert next(row for row in report.layers if row.name == "middle").note


def test_arguments(q_resnet, tmp_path):
    with pytest.raises(ValueError, match="encoding: expected one of 'packed', 'int8', got 'int4'"):
        keras_dbq.export_tflite(q_resnet, None, "int4")
    with pytest.raises(TypeError, match="export_tflite: expected a quantized tf_keras model, got str"):
        keras_dbq.export_tflite("model", None)
    with pytest.raises(ValueError, match="has no quantized layer"):
        keras_dbq.export_tflite(nets.sequential(), None)
    path = tmp_path / "m.tflite"
    report = keras_dbq.export_tflite(q_resnet, path)
    assert path.read_bytes() == report.data and report.encoding == "packed"
    model = fb.load_model(report.data)
    entry = json.loads(fb.get_metadata(model, "keras_dbq"))
    assert entry == {"encoding": "packed", "format_version": 1, "packing": "base3", "rounding": "xnnpack"}


def test_export_is_repeatable(q_resnet):
    first = keras_dbq.export_tflite(q_resnet, None)
    assert keras_dbq.export_tflite(q_resnet, None).data == first.data


def test_round_biases_moves_keras_onto_the_files_grid():
    q_model = quantized(nets.resnet, branches=1)
    before = {layer.name: layer.get_weights() for layer in q_model.layers}
    untouched = keras_dbq.export_tflite(q_model, None, round_model_biases=False)
    for layer in q_model.layers:
        for a, b in zip(before[layer.name], layer.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    assert keras_dbq.export_tflite(q_model, None).data == untouched.data
    found = kernels(keras_dbq.export_tflite(q_model, None, "int8").data)
    for name, (_, scale, bias) in trained(q_model).items():
        steps = bias / (np.float64(found[name][3]) * scale)
        np.testing.assert_allclose(steps, np.rint(steps), atol=0.02, err_msg=name)
        np.testing.assert_array_equal(found[name][2], np.rint(steps), err_msg=name)


def test_two_layers_with_equal_weights_keep_their_biases():
    inputs = keras.Input(nets.SHAPE)
    x = L.Conv2D(3, 1, name="first", activation="relu")(inputs)
    x = L.Conv2D(3, 1, name="second", activation="relu")(x)
    x = L.Conv2D(3, 1, name="third")(x)
    model = keras.Model(inputs, x)
    kernel = np.random.default_rng(0).normal(size=(1, 1, 3, 3))
    for layer in model.layers[1:]:
        layer.set_weights([kernel, np.zeros(3)])
    q_model = quantized(model, branches=1, ternary_first=True, ternary_last=True)
    for i, name in enumerate(("first", "second", "third")):  # now, because quantize_model corrects biases
        q_model.get_layer(f"quant_{name}").layer.bias.assign(np.full(3, 0.1 * (i % 2)))
    data = keras_dbq.export_tflite(q_model, None, "int8", strict=True).data
    assert [fb.text(fb.load_model(data).subgraphs[0].tensors[o.outputs[0]].name) for o in
            fb.load_model(data).subgraphs[0].operators] == ["first", "second", "third"]  # fmt: skip
    assert [bool(kernels(data)[name][2].any()) for name in ("first", "second", "third")] == [False, True, False]
    assert keras_dbq.verify(q_model, data, nets.pictures(4), top1_threshold=0).passed


def test_shared_layer_with_batch_norm_is_refused():
    inputs = keras.Input(nets.SHAPE)
    conv = L.Conv2D(3, 1, name="shared")
    x = L.BatchNormalization()(conv(inputs))
    model = keras.Model(inputs, L.BatchNormalization()(conv(x)))
    with pytest.raises(ValueError, match="layer 'shared': expected one call of a layer with batch norm behind it"):
        keras_dbq.export_tflite(quantized(model), None)


def test_shared_layer_exports_once_per_call():
    inputs = keras.Input(nets.SHAPE)
    conv = L.Conv2D(3, 1, name="shared", activation="relu")
    q_model = quantized(keras.Model(inputs, conv(conv(inputs))), ternary_first=True, ternary_last=True, branches=1)
    data = keras_dbq.export_tflite(q_model, None, "int8", strict=True).data
    assert operators(data) == ["CONV_2D", "CONV_2D"]
    assert keras_dbq.verify(q_model, data, nets.pictures(4), top1_threshold=0).passed


def test_average_pooling_rounds_once():
    inputs = keras.Input(nets.SHAPE)
    x = L.Conv2D(4, 1, name="conv")(inputs)
    q_model = quantized(keras.Model(inputs, L.AveragePooling2D(2, name="pool")(x)))
    report = keras_dbq.export_tflite(q_model, None, strict=True)
    assert report.findings == [] and "AVERAGE_POOL_2D" not in operators(report.data)
    rows = {row.name: row for row in keras_dbq.verify(q_model, report.data, nets.pictures(8), top1_threshold=0).rows}
    assert rows["pool"].keras_codes == 8 * 8 * 8 * 4 and rows["pool"].keras < 0.01 * rows["pool"].keras_codes


def test_average_pooling_over_a_padded_border_stays_pooling():
    inputs = keras.Input(nets.SHAPE)
    x = L.Conv2D(4, 1, name="conv")(inputs)
    q_model = quantized(keras.Model(inputs, L.AveragePooling2D(3, 2, padding="same", name="pool")(x)))
    report = keras_dbq.export_tflite(q_model, None, strict=True)
    assert report.findings == ["requantized (int8 to another int8 scale): pool"]
    rows = keras_dbq.verify(q_model, report.data, nets.pictures(8), top1_threshold=0).rows
    assert max(row.keras_largest for row in rows) <= 2 and rows[-1].keras_codes


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


KERNEL = Kernel(
    "layer",
    np.array([[127, -127, 0], [127, 100, 27]], np.int8),
    np.array([0.5, 0.5], np.float32),
    np.array([1.0, -2.0]),
)


def test_bias_is_rounded_to_input_times_weight_scale():
    weights, scale, bias = fit_bias(KERNEL, 0, 0.3)
    np.testing.assert_array_equal(weights, KERNEL.weights)
    np.testing.assert_array_equal(scale, KERNEL.scale)
    np.testing.assert_array_equal(bias, np.rint([1 / 0.15, -2 / 0.15]))


@pytest.mark.parametrize("scale", [1e-10, 1e-12, 1e-20])
def test_a_bias_too_large_for_int32_raises_the_scale(scale):
    kernel = dataclasses.replace(KERNEL, scale=np.array([0.5, scale], np.float32))
    weights, fitted, bias = fit_bias(kernel, 0, 0.3)
    assert np.abs(bias.astype(np.int64)).max() + 3 * 127 * 255 <= 2**31 - 1
    steps = 0.3 * fitted.astype(np.float64)
    assert np.all(np.abs(bias * steps - kernel.bias) <= 0.5 * steps + 1e-12)
    np.testing.assert_array_equal(weights[0], kernel.weights[0])
    # What the weights add moves by less than one part in 10**6 of the bias.
    error = np.abs(weights[1] * np.float64(fitted[1]) - kernel.weights[1] * scale).sum() * 0.3 * 255
    assert error < 2e-6 * abs(kernel.bias[1])
    assert fitted[1] > scale


def test_a_raised_scale_keeps_two_branches():
    from keras_dbq.tflite.levels import find_branches

    rng = np.random.default_rng(0)
    trits = rng.integers(-1, 2, (2, 1, 400))
    weights = (trits[0] * 100 + trits[1] * 27).astype(np.int8)
    for bias in (3.0, 10.0, 40.0, 150.0):
        kernel = Kernel("layer", weights, np.array([1e-8], np.float32), np.array([bias]))
        shrunk, scale, _ = fit_bias(kernel, 0, 0.1)
        assert scale[0] > 1e-8 and find_branches(shrunk.T) is not None


def test_a_dot_product_over_int32_is_refused():
    kernel = Kernel("wide", np.ones((1, 70_000), np.int8), np.ones(1, np.float32), np.zeros(1))
    with pytest.raises(ValueError, match="layer 'wide': expected a dot product that fits int32, got 70000 weights"):
        fit_bias(kernel, 0, 1.0)


def test_converter_folding_into_weights_is_noticed(monkeypatch):
    from keras_dbq.export import inference

    q_model = quantized(nets.sequential)
    product = inference._product
    monkeypatch.setattr(inference, "_product", lambda layer, x, kernel: product(layer, x, 1.5 * kernel))
    with pytest.raises(ValueError, match="layers .*head.*: expected their weights in the converted file, got others"):
        keras_dbq.export_tflite(q_model, None)
