"""Reading, editing and writing files: round trips, and every error."""

import numpy as np
import pytest

from keras_dbq.tflite import flatbuffer as fb
from tests.tflite.cases import CASES
from tests.tflite_ops import packed_models


@pytest.fixture
def model():
    return fb.load_model(packed_models.int8_model(CASES["conv"]))


@pytest.mark.parametrize("share", [False, True])
def test_a_file_is_written_as_it_was_read(model, share):
    data = fb.save_model(model, share)
    assert data[4:8] == b"TFL3" and fb.save_model(fb.load_model(data), share) == data


def test_bytes_or_a_path(tmp_path):
    data = packed_models.int8_model(CASES["conv"])
    path = tmp_path / "m.tflite"
    path.write_bytes(data)
    assert fb.read_bytes(data) == fb.read_bytes(bytearray(data)) == fb.read_bytes(path) == fb.read_bytes(str(path))


def test_other_files_are_named(tmp_path):
    path = tmp_path / "m.npz"
    path.write_bytes(b"PK\x03\x04abcdefgh")
    with pytest.raises(ValueError, match=r"source: expected a TFLite file .*, got b'abcd' in '.*m.npz'"):
        fb.read_bytes(path)
    with pytest.raises(ValueError, match=r"got b'abcd'$"):
        fb.read_bytes(path.read_bytes())


def test_only_models_of_one_subgraph_with_weights_inside(model):
    model.subgraphs *= 2
    with pytest.raises(ValueError, match="source: expected a model of one subgraph, got 2"):
        fb.load_model(fb.save_model(model))
    model.subgraphs = model.subgraphs[:1]
    model.buffers[1].offset = 4096
    with pytest.raises(ValueError, match="source: expected weights inside the flatbuffer"):
        fb.load_model(fb.save_model(model))
    with pytest.raises(ValueError, match="source: expected a readable TFLite flatbuffer, got"):
        fb.load_model(b"\x1c\x00\x00\x00TFL3" + b"\xff" * 64)


def test_operator_codes_are_added_once(model):
    first = fb.operator_code(model, "MAXIMUM", 2)
    assert fb.operator_code(model, "MAXIMUM", 2) == first == len(model.operatorCodes) - 1
    assert fb.operator_code(model, "MAXIMUM", 1) == first + 1  # another version is another code
    custom = fb.operator_code(model, "DbqConv2D")
    model.subgraphs[0].operators[0].opcodeIndex = custom
    assert fb.op_name(fb.load_model(fb.save_model(model)), model.subgraphs[0].operators[0]) == "DbqConv2D"


@pytest.mark.parametrize("dtype", sorted({str(dtype) for dtype in fb.NUMPY_TYPES.values()}))
def test_constants_round_trip(model, dtype):
    values = np.arange(6).reshape(2, 3).astype(dtype)
    index = fb.add_tensor(model, values, "new", fb.quantization(np.float32([0.5, 2]), 0, 0))
    model = fb.load_model(fb.save_model(model))
    np.testing.assert_array_equal(fb.constant(model, index), values)
    assert fb.constant(model, index).dtype == values.dtype and fb.is_constant(model, index)


def test_constants_that_cannot_be_read(model):
    tensors, index = model.subgraphs[0].tensors, fb.add_tensor(model, np.zeros(4, np.int8), "w")
    tensors[index].shape = np.array([5], np.int32)
    with pytest.raises(ValueError, match=r"tensor 'w': expected 5 bytes of data for \(5,\), got 4"):
        fb.constant(model, index)
    tensors[index].type = fb.schema.TensorType.INT4
    with pytest.raises(ValueError, match="tensor 'w': expected a plain type, got INT4"):
        fb.constant(model, index)
    with pytest.raises(ValueError, match="tensor 'x': expected 210 bytes of data for .*, got 0"):
        fb.constant(model, 0)
    assert not fb.is_constant(model, 0) and not fb.is_constant(model, -1)


@pytest.mark.parametrize(
    "scale, zero_point, axis, expected",
    [
        (None, 0, 0, [[0, 1, 2], [3, 4, 5]]),
        (np.float32(0.5), 0, 0, [[0, 0.5, 1], [1.5, 2, 2.5]]),
        (np.float32(0.5), 2, 0, [[-1, -0.5, 0], [0.5, 1, 1.5]]),
        (np.float32([0.5, 2]), [0, 3], 0, [[0, 0.5, 1], [0, 2, 4]]),
        (np.float32([1, 2, 4]), 0, 1, [[0, 2, 8], [3, 8, 20]]),
    ],
)
def test_dequantized(model, scale, zero_point, axis, expected):
    quantization = None if scale is None else fb.quantization(scale, np.array(zero_point), axis)
    index = fb.add_tensor(model, np.arange(6, dtype=np.int8).reshape(2, 3), "w", quantization)
    values = fb.dequantized(model, index)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, expected)


def test_metadata_is_replaced_by_name(model):
    assert fb.get_metadata(model, "a") is None
    for name, data in (("a", b"first"), ("b", b"other"), ("a", b"second")):
        fb.set_metadata(model, name, data)
    model = fb.load_model(fb.save_model(model))
    assert fb.get_metadata(model, "a") == b"second" and fb.get_metadata(model, "b") == b"other"
    assert len(model.metadata) == 2


def test_write_file_is_still_found_here():
    """A name of version 0.1."""
    from keras_dbq import _files

    assert fb.write_file is _files.write_file
