"""What is said of a file is what is in it."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.contents import contents
from keras_dbq.tflite.unpack import unpack_tflite
from tests import nets
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def report():
    return keras_dbq.export_tflite(nets.quantized(nets.mobilenet_v1), None, strict=True)


def test_every_byte_and_every_operator(report):
    found = contents(report.data)
    assert found.file_bytes == len(report.data)
    assert sum(row.bytes for row in found.operators) + sum(found.other.values()) == len(report.data)
    graph = fb.load_model(report.data).subgraphs[0]
    assert [row.output.name for row in found.operators] == [
        fb.text(graph.tensors[int(o.outputs[0])].name) for o in graph.operators
    ]
    assert found.needs_delegate and found.facts["format_version"] == 1 and found.facts["encoding"] == "packed"


def test_layers_are_those_of_the_export(report):
    rows = [row for row in contents(report.data).operators if row.weights]
    assert [(row.op, row.weights, row.bytes) for row in rows] == [
        (layer.op, layer.encoding, layer.bytes_after) for layer in report.layers
    ]
    packed = [(row.zeros, layer.sparsity) for row, layer in zip(rows, report.layers, strict=True) if layer.sparsity]
    assert packed and all(mine == theirs for mine, theirs in packed)


def test_ends_have_keras_names_and_grids(report):
    found = contents(report.data)
    (image,) = found.inputs
    assert (image.name, image.shape, image.dtype) == ("image", [-1, 16, 16, 3], "int8")
    detail = keras_dbq.Interpreter(report.data).input_details[0]["quantization_parameters"]
    assert image.scale == pytest.approx(float(detail["scales"][0])) and image.zero_point == int(
        detail["zero_points"][0]
    )


def test_an_int8_file_of_anyone(report):
    plain = unpack_tflite(report.data)
    found = contents(plain)
    assert not found.needs_delegate and found.facts == {}
    rows = [row for row in found.operators if row.weights]
    assert {row.weights for row in rows} == {"int8"}
    model = fb.load_model(plain)
    for row in rows:
        weights = fb.constant(model, int(model.subgraphs[0].operators[row.index].inputs[1]))
        assert row.zeros == [float(np.mean(weights == 0))]
    assert "runs in the stock interpreter; no metadata of keras_dbq" in str(found)


def test_what_is_no_file():
    with pytest.raises(ValueError, match="expected a TFLite file"):
        contents(b"nothing at all")


def test_thresholds_are_told():
    data = (REPOSITORY / "tests" / "golden" / "format_2" / "tsq_2_packed.tflite").read_bytes()
    found = contents(data)
    counting = [row for row in found.operators if row.thresholds]
    assert [(row.weights, row.thresholds) for row in counting] == [("packed-1", 3)] * 3
    assert "packed-1, 3 thresholds" in str(found) and found.facts["format_version"] == 2
    assert sum(row.bytes for row in found.operators) + sum(found.other.values()) == len(data)
