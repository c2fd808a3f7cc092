"""export_tflite: arguments, strict, the report, and every net in integers from end to end."""

import json
import re

import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.export import api
from keras_dbq.tflite import flatbuffer as fb
from tests import nets
from tests.export.oracle import operators, quantized

L = keras.layers


@pytest.fixture(scope="module")
def q_resnet():
    return quantized(nets.resnet, branches=2)


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


@pytest.mark.parametrize("encoding", ["packed", "int8"])
def test_a_missing_folder_is_refused_before_the_work(q_resnet, tmp_path, monkeypatch, encoding):
    monkeypatch.setattr(api, "convert", lambda model: pytest.fail("converted before the folder was looked for"))
    target = tmp_path / "missing" / "m.tflite"
    message = f"path: expected a file in an existing folder, got '{target}'; create '{target.parent}'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        keras_dbq.export_tflite(q_resnet, target, encoding)
