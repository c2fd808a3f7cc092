"""verify: passes on what was exported, names the first layer that differs on what was not."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.export import VerificationError
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.wrapping import wrappers
from tests import nets


@pytest.fixture(scope="module")
def q_model():
    return keras_dbq.quantize_model(
        nets.mobilenet_v1(), keras_dbq.DBQScheme(branches=2), calibration_data=nets.pictures()
    )


@pytest.fixture(scope="module")
def packed(q_model):
    return keras_dbq.export_tflite(q_model, None, strict=True).data


@pytest.fixture(scope="module")
def int8(q_model):
    return keras_dbq.export_tflite(q_model, None, "int8", strict=True).data


def test_passes(q_model, packed, int8):
    x = nets.pictures(40, seed=2)
    report = keras_dbq.verify(q_model, packed, x, int8_file=int8, batch_size=7)
    assert report.top1_equal_by_layer == 40 and report.notes == []
    assert report.passed and report.examples == 40 and report.packed and report.first_difference is None
    assert report.output_interpreter == report.output_int8 == 0 and report.top1_agreement == 1
    rows = {row.name: row for row in report.rows}
    for name in ("image", "stem", "dw0", "pw0", "dw1", "pw1", "head"):
        assert rows[name].keras_codes == rows[name].codes > 0, name
    assert rows["stem"].codes == 40 * 8 * 8 * 8
    assert str(report).splitlines()[-1] == "passed"
    # The batch size changes nothing.
    assert keras_dbq.verify(q_model, packed, x, batch_size=40).rows[-1] == report.rows[-1]


def test_a_file_on_disk_and_no_keras(packed, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(packed)
    report = keras_dbq.verify(None, path, nets.pictures(4))
    assert report.passed and all(row.keras_codes == 0 for row in report.rows)


def negated(data, layer):
    """The int8 file with the weights of one layer negated."""
    model = fb.load_model(data)
    graph = model.subgraphs[0]
    operator = next(o for o in graph.operators if fb.text(graph.tensors[o.outputs[0]].name) == layer)
    weights = fb.constant(model, int(operator.inputs[1])).copy()
    weights = -weights  # all, because a single channel may be dead
    graph.tensors[operator.inputs[1]].buffer = fb.add_buffer(model, weights)
    return fb.save_model(model)


@pytest.mark.parametrize("layer", ["stem", "pw0", "dw1"])
def test_names_the_first_layer_that_differs(q_model, packed, int8, layer):
    with pytest.raises(VerificationError, match=f"verify: the integer paths differ, first at '{layer}'") as caught:
        keras_dbq.verify(q_model, packed, nets.pictures(8), int8_file=negated(int8, layer))
    report = caught.value.report
    assert report.first_difference == layer and not report.passed
    assert isinstance(caught.value, AssertionError)
    # Only the int8 twin was changed: numpy and interpreter agree on the packed file.
    assert all(row.interpreter == 0 for row in report.rows)
    assert "FAILED: the integer paths differ" in str(report)


def test_a_changed_model_is_noticed(q_model, packed):
    layer = next(la for la in q_model.layers if wrappers.inner(la).name == "head")
    kernel = wrappers.quantized_weights(layer)[0].variable
    kernel.assign(-kernel)
    try:
        with pytest.raises(VerificationError, match="Keras' layer 'head' computes something else than the file"):
            keras_dbq.verify(q_model, packed, nets.pictures(32))
        report = keras_dbq.verify(q_model, packed, nets.pictures(32), raise_on_failure=False)
        assert keras_dbq.verify(q_model, packed, nets.pictures(32), top1_threshold=0).passed
    finally:
        kernel.assign(-kernel)
    assert report.top1_agreement < 0.995 and report.first_difference is None and not report.passed
    rows = {row.name: row for row in report.rows}
    assert rows["head"].keras_largest > 50 and f"by up to {rows['head'].keras_largest}" in str(report)
    # The layers before it compute what they did: each is compared on the file's own codes.
    assert all(row.keras_largest <= 1 for name, row in rows.items() if name != "head")


def test_a_changed_layer_inside_is_named(q_model, packed):
    layer = next(la for la in q_model.layers if wrappers.inner(la).name == "pw0")
    kernel = wrappers.quantized_weights(layer)[0].variable
    kept = kernel.numpy()
    kernel.assign(-kept)
    try:
        report = keras_dbq.verify(q_model, packed, nets.pictures(8), raise_on_failure=False)
    finally:
        kernel.assign(kept)
    assert [row.name for row in report.rows if not row.keras_agrees] == ["pw0"] and not report.passed
    assert "'pw0' computes something else" in report.problems()[0]


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"x": np.zeros((0, 16, 16, 3), np.float32)}, ValueError, "x: expected one batch size of at least 1"),
        ({"top1_threshold": 1.5}, ValueError, "top1_threshold: expected a number from"),
        ({"batch_size": 0}, ValueError, "batch_size: expected an integer from 1"),
        ({"path": b"no file"}, ValueError, "source: expected a TFLite file"),
    ],
)
def test_errors(q_model, packed, arguments, error, message):
    arguments = {"path": packed, "x": nets.pictures(2), **arguments}
    with pytest.raises(error, match=message):
        keras_dbq.verify(q_model, **arguments)
