"""export_tflite: arguments, strict, the report, and every net in integers from end to end."""

import json
import re

import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.export import api
from keras_dbq.export.convert import convert
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
    names = [fb.text(tensor.name) for tensor in model.subgraphs[0].tensors if tensor.name]  # constants have none
    assert len(set(names)) == len(names) > len(model.subgraphs[0].operators) - 1 and not any(
        ";" in name for name in names
    )
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
    assert keras_dbq.verify(q_model, report.data, nets.pictures(4)).passed


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


def test_only_what_the_scheme_made_ternary_is_packed():
    """A Rescaling and a batch norm on their own have one weight a channel, whose integers are always ternary."""
    inputs = keras.Input((8, 8, 3))
    x = L.BatchNormalization(name="norm")(L.MaxPooling2D()(L.Rescaling(0.5, 0.1, name="rescale")(inputs)))
    model = nets.randomize(keras.Model(inputs, L.Conv2D(4, 3, name="last")(L.Conv2D(6, 1, name="middle")(x))))
    q_model = keras_dbq.quantize_model(
        model, keras_dbq.DBQScheme(1, ternary_first=True), nets.pictures(16, shape=(8, 8, 3))
    )
    report = keras_dbq.export_tflite(q_model, None, strict=True)
    assert {row.name: row.encoding for row in report.layers} == {
        "rescale": "int8", "norm": "int8", "middle": "packed-1", "last": "int8",
    }  # fmt: skip
    packed = keras_dbq.pack_tflite(keras_dbq.export_tflite(q_model, None, "int8").data)
    assert packed.data == report.data  # the same from the integers alone


@pytest.mark.parametrize("build", [nets.mobilenet_v1, nets.preactivation], ids=lambda f: f.__name__)
def test_a_fat_model_needs_no_operators_of_ours(build):
    q_model = keras_dbq.quantize_model(build(), keras_dbq.FATScheme(), nets.pictures(16))
    packed, int8 = (keras_dbq.export_tflite(q_model, None, encoding, strict=True) for encoding in ("packed", "int8"))
    assert packed.data == int8.data and packed.encoding == int8.encoding == "int8"
    assert not any(name.startswith("Dbq") for name in operators(packed.data))
    keras_dbq.Interpreter(packed.data, delegate=False).predict(nets.pictures(2))


def test_an_int8_file_is_slim():
    """As small as the packer's slimming makes it; constants' names and ranges are gone."""
    q_model = quantized(nets.mobilenet_v1, branches=2)
    int8 = keras_dbq.export_tflite(q_model, None, "int8")
    again = fb.load_model(int8.data)
    api.slim(again)
    assert fb.save_model(again, share=True) == int8.data and int8.file_bytes_before == int8.file_bytes_after == len(
        int8.data
    )
    assert len(int8.data) < len(convert(q_model).data)
