"""Packing and unpacking of single operators, against files that another module builds byte by byte."""

import json
import os
import re
import warnings

import numpy as np
import pytest

from keras_dbq.export import pack_tflite, unpack_tflite
from keras_dbq.reference import Engine
from keras_dbq.runtime.interpreter import Interpreter
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.slim import SLIM_STEPS
from tests.tflite_ops import packed_models
from tests.tflite_ops.packed_models import Case

CASES = {
    "conv": Case("conv2d", (1, 7, 6, 5), 9, branches=2),
    "conv one branch": Case("conv2d", (1, 7, 6, 5), 9, stride=(2, 1), padding="valid", activation="relu"),
    "conv dilated": Case("conv2d", (1, 9, 9, 4), 6, dilation=(2, 3), activation="relu6"),
    "depthwise": Case("depthwise_conv2d", (1, 7, 6, 5), 5, multiplier=1, branches=2, activation="relu6"),
    "depthwise multiplier": Case("depthwise_conv2d", (1, 7, 6, 5), 10, multiplier=2, stride=(2, 2)),
    "dense": Case("fully_connected", (3, 40), 7, branches=2, activation="relu_n1_to_1"),
    "dense rank 4": Case("fully_connected", (2, 3, 3, 10), 7, keep_num_dims=True),
}


def operators(data):
    model = fb.load_model(data)
    return [fb.op_name(model, operator) for operator in model.subgraphs[0].operators]


def packed_constants(data):
    model = fb.load_model(data)
    return [fb.constant(model, int(i)) for i in model.subgraphs[0].operators[0].inputs[1:]]


def integers(data):
    """Weights and bias of the first operator of an int8 file."""
    model = fb.load_model(data)
    operator = model.subgraphs[0].operators[0]
    return [fb.constant(model, int(i)) for i in operator.inputs[1:3]], operator.builtinOptions.__dict__


@pytest.fixture(params=CASES, ids=list(CASES))
def case(request):
    return CASES[request.param]


def test_pack_writes_what_the_format_says(case):
    report = pack_tflite(packed_models.int8_model(case), strict=True)
    assert operators(report.data) == [packed_models.CUSTOM_NAMES[case.kind]]
    codes, branch_scales, scales, bias, params = packed_constants(report.data)
    expected = packed_models.constant_arrays(case)
    np.testing.assert_array_equal(scales, expected["scales"])
    np.testing.assert_array_equal(bias, expected["bias"])
    np.testing.assert_array_equal(params, expected["params"])
    # Random weights use every level of most channels; where q = 0 or levels coincide the spelling may differ.
    p, q = (*branch_scales.astype(int), np.zeros(branch_scales.shape[1], int))[:2]
    assert codes.size == expected["codes"].size
    sure = np.array([len({0, p, q, p + q, p - q}) == 5 for p, q in zip(p, q, strict=True)]) | (case.branches == 1)
    np.testing.assert_array_equal(branch_scales[:, sure], expected["branch_scales"][:, sure])
    if sure.all():
        np.testing.assert_array_equal(codes, expected["codes"])


def test_packed_runs_as_the_int8_file(case):
    source = packed_models.int8_model(case)
    data = pack_tflite(source).data
    x = packed_models.random_input(case)
    expected = Interpreter(source, delegate=False).predict(x)
    np.testing.assert_array_equal(Interpreter(data).predict(x), expected)
    np.testing.assert_array_equal(Engine(data).run(x), expected)


def test_unpack_is_the_way_back(case):
    source = packed_models.int8_model(case)
    data = unpack_tflite(pack_tflite(source).data)
    (weights, bias), options = integers(data)
    (expected_weights, expected_bias), expected_options = integers(source)
    np.testing.assert_array_equal(weights, expected_weights)
    np.testing.assert_array_equal(bias, expected_bias)
    assert options == expected_options
    x = packed_models.random_input(case)
    expected = Interpreter(source, delegate=False).predict(x)
    np.testing.assert_array_equal(Interpreter(data, delegate=False).predict(x), expected)
    assert pack_tflite(data).data == pack_tflite(source).data


def test_packing_twice_changes_nothing():
    once = pack_tflite(packed_models.int8_model(CASES["conv"])).data
    assert pack_tflite(once).data == once


def edited(case, edit):
    """The int8 file of a case after edit(model, operator, tensors)."""
    model = fb.load_model(packed_models.int8_model(case))
    operator = model.subgraphs[0].operators[0]
    edit(model, operator, model.subgraphs[0].tensors)
    return fb.save_model(model)


def set_weights(values):
    def edit(model, operator, tensors):
        tensors[operator.inputs[1]].buffer = fb.add_buffer(model, values.astype(np.int8))

    return edit


def no_bias(model, operator, tensors):
    operator.inputs = np.array([*operator.inputs[:2], -1], np.int32)


def per_tensor_scale(model, operator, tensors):
    tensors[operator.inputs[1]].quantization = fb.quantization(np.float32(0.01))


def test_missing_bias_is_zeros():
    data = pack_tflite(edited(CASES["dense"], no_bias), strict=True).data
    np.testing.assert_array_equal(packed_constants(data)[3], np.zeros(7, np.int32))


def test_one_scale_for_all_channels_is_repeated():
    data = pack_tflite(edited(CASES["dense"], per_tensor_scale), strict=True).data
    np.testing.assert_array_equal(packed_constants(data)[2][2:], np.full(7, np.float32(0.01)))


def zero_scale(model, operator, tensors):
    tensors[operator.inputs[1]].quantization.scale = np.zeros(9, np.float32)


def weight_zero_point(model, operator, tensors):
    tensors[operator.inputs[1]].quantization.zeroPoint = np.ones(9, np.int64)


def grouped(model, operator, tensors):
    tensors[operator.inputs[0]].shape = np.array([1, 7, 6, 10], np.int32)


def tanh(model, operator, tensors):
    operator.builtinOptions.fusedActivationFunction = fb.schema.ActivationFunctionType.TANH


def float_output(model, operator, tensors):
    tensors[operator.outputs[0]].type = fb.schema.TensorType.FLOAT32


def large_bias(model, operator, tensors):
    tensors[operator.inputs[2]].buffer = fb.add_buffer(model, np.full(9, 2**31 - 1, np.int32))


def computed_weights(model, operator, tensors):
    tensors[operator.inputs[1]].buffer = 0


def long_bias(model, operator, tensors):
    tensors[operator.inputs[2]].type = fb.schema.TensorType.INT64


@pytest.mark.parametrize(
    "edit, reason",
    [
        (set_weights(np.arange(405) % 11), "11 levels in a channel, two branches hold 9"),
        (zero_scale, "a scale is not finite and positive"),
        (weight_zero_point, "weights have a zero point"),
        (grouped, "grouped convolution"),
        (tanh, "fused activation TANH"),
        (float_output, "input, weights, output are INT8, INT8, FLOAT32, not INT8"),
        (large_bias, "a bias of 2147483647, int32 has room for 2146026321 beside 45 products"),
        (computed_weights, "weights are computed by the graph"),
        (long_bias, "bias is not a constant int32 vector"),
    ],
)
def test_what_cannot_be_packed_stays_and_says_why(edit, reason):
    source = edited(CASES["conv"], edit)
    report = pack_tflite(source)
    assert operators(report.data) == ["CONV_2D"]
    assert report.layers[0].branches == 0 and report.layers[0].encoding == "int8"
    with pytest.raises(ValueError, match=f"strict: expected every ternary layer packed, 1 are not .*y: {reason}"):
        pack_tflite(source, strict=True)
    assert pack_tflite(source, strict=True, ternary_layers=[]).layers[0].note == ""


def test_unknown_names_are_errors():
    source = packed_models.int8_model(CASES["conv"])
    with pytest.raises(ValueError, match="ternary_layers: expected names of layers in the file, got nope; .* has y"):
        pack_tflite(source, ternary_layers=["nope"])
    with pytest.raises(ValueError, match="slim_steps: expected names out of .*, got nope"):
        pack_tflite(source, slim_steps=["nope"])


@pytest.mark.parametrize("data", [b"", b"abcdefgh" * 10, b"\x1c\x00\x00\x00TFL3" + b"\xff" * 64])
def test_damaged_files(data):
    with pytest.raises(ValueError, match="source: expected a"):
        pack_tflite(data)


def test_damaged_codes_do_not_unpack():
    arrays = packed_models.constant_arrays(CASES["conv"])
    arrays["codes"][3] = 243
    with pytest.raises(ValueError, match="codes: expected bytes up to 242, got 243"):
        unpack_tflite(packed_models.packed_model(CASES["conv"], arrays))


def test_metadata_entry():
    model = fb.load_model(pack_tflite(packed_models.int8_model(CASES["conv"])).data)
    entry = json.loads(fb.get_metadata(model, "keras_dbq"))
    assert entry == {"format_version": 1, "packing": "base3", "rounding": "xnnpack"}


def test_every_slim_step_saves_bytes_and_keeps_the_result():
    case = CASES["depthwise"]
    model = fb.load_model(packed_models.int8_model(case))
    tensor = model.subgraphs[0].tensors[1]
    tensor.quantization.min = tensor.quantization.max = np.zeros(5, np.float32)
    tensor.shapeSignature = tensor.shape
    fb.set_metadata(model, "min_runtime_version", b"1.14.0" + bytes(10))
    fb.add_tensor(model, np.zeros(9, np.int32), "unused")
    source = fb.save_model(model)
    full = pack_tflite(source)
    x = packed_models.random_input(case)
    expected = Interpreter(source, delegate=False).predict(x)
    np.testing.assert_array_equal(Interpreter(full.data).predict(x), expected)
    for step in SLIM_STEPS:
        if step != "shape_signatures":  # of constants only here, and they are dropped as unused
            without = pack_tflite(source, slim_steps=[s for s in SLIM_STEPS if s != step])
            assert without.file_bytes_after >= full.file_bytes_after, step
            np.testing.assert_array_equal(Interpreter(without.data).predict(x), expected)


def test_report_accounts_for_every_byte(case):
    report = pack_tflite(packed_models.int8_model(case))
    assert sum(r.bytes_after for r in report.layers) + sum(report.other_after.values()) == len(report.data)
    assert sum(r.bytes_before for r in report.layers) + sum(report.other_before.values()) == report.file_bytes_before
    assert all(size >= 0 for size in [*report.other_before.values(), *report.other_after.values()])
    table = str(report)
    assert f"{len(report.data):,}" in table.splitlines()[-1] and report.layers[0].op in table
    assert json.loads(report.to_json())["file_bytes_after"] == len(report.data)


def test_bytes_of_a_packed_layer():
    report = pack_tflite(packed_models.int8_model(CASES["conv"]))
    weights, channels = 9 * 3 * 3 * 5, 9
    packed = 2 * -(-weights // 5) + 2 * channels + 4 * (2 + channels) + 4 * channels + 4 * 16
    assert report.layers[0].bytes_after == packed
    # int8 weights, bias, and a float scale and an int64 zero point per channel of both
    assert report.layers[0].bytes_before == weights + 4 * channels + 2 * (4 + 8) * channels


def test_one_warning_above_95_percent_zeros():
    weights = np.zeros((9, 3, 3, 5))
    weights[:, 0, 0, 0] = 127
    source = edited(CASES["conv one branch"], set_weights(weights))
    with pytest.warns(UserWarning, match=r"over 95 % of the codes are zero in y branch 0 \(97.8 %\)") as caught:
        report = pack_tflite(source)
    assert len(caught) == 1 and report.layers[0].sparsity == [1 - 1 / 45]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pack_tflite(packed_models.int8_model(CASES["conv one branch"]))


def test_files_are_written_whole(tmp_path):
    source, target = tmp_path / "int8.tflite", tmp_path / "packed.tflite"
    source.write_bytes(packed_models.int8_model(CASES["conv"]))
    target.write_bytes(b"old")
    report = pack_tflite(source, target)
    assert target.read_bytes() == report.data
    assert unpack_tflite(target, source) == source.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["int8.tflite", "packed.tflite"]


def test_a_missing_folder_is_refused_before_any_work(tmp_path):
    target = tmp_path / "missing" / "packed.tflite"
    message = f"path: expected a file in an existing folder, got '{target}'; create '{target.parent}'"
    for write in (pack_tflite, unpack_tflite):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):  # the source would be an error of its own
            write(b"no file", target)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "packed.tflite"
    target.write_bytes(b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        pack_tflite(packed_models.int8_model(CASES["conv"]), target)
    assert target.read_bytes() == b"old" and os.listdir(tmp_path) == ["packed.tflite"]


def test_packer_needs_no_tensorflow():
    import subprocess
    import sys

    names = "keras_dbq.pack_tflite, keras_dbq.export.unpack_tflite"
    code = f"import sys, keras_dbq; {names}; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
