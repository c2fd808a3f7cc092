"""Files of version 0.1 and of each packed format mean today what they meant then; today's packer writes the same."""

import json

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.reference import Engine
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite import slim
from keras_dbq.tflite.contents import contents
from tests.conftest import REPOSITORY

GOLDEN = REPOSITORY / "tests" / "golden" / "0.1"
NAMES = ("dbq_1", "dbq_2", "dbq_2_frozen", "fat", "fat_frozen")
FILES = [f"{name}_{encoding}" for name in NAMES for encoding in ("packed", "int8")]


@pytest.fixture(scope="module")
def answers():
    with np.load(GOLDEN / "answers.npz") as stored:
        return {name: stored[name] for name in ("x", *FILES)}


def content(name: str) -> bytes:
    return (GOLDEN / f"{name}.tflite").read_bytes()


def test_every_file_is_tested():
    assert {path.stem for path in GOLDEN.glob("*.tflite")} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_every_path_answers_what_version_0_1_answered(name, answers):
    data, x = content(name), answers["x"]
    found = {"interpreter": keras_dbq.Interpreter(data).predict(x), "numpy engine": Engine(data).run(x)}
    if name.endswith("int8"):
        found["stock interpreter"] = keras_dbq.Interpreter(data, delegate=False).predict(x)
    assert len(np.unique(answers[name])) > 10  # a saturated network would prove nothing
    for path, got in found.items():
        np.testing.assert_array_equal(got, answers[name], err_msg=path)


@pytest.mark.parametrize("name", NAMES)
def test_both_encodings_answer_the_same(name, answers):
    np.testing.assert_array_equal(answers[f"{name}_packed"], answers[f"{name}_int8"])


@pytest.mark.parametrize("name", [name for name in NAMES if "fat" not in name])
def test_packing_the_int8_file_gives_the_packed_one(name):
    assert keras_dbq.pack_tflite(content(f"{name}_int8")).data == content(f"{name}_packed")


@pytest.mark.parametrize("name", NAMES)
def test_unpacking_the_packed_file_gives_the_int8_ones_meaning(name):
    """Operator by operator: type, name of the result, and every constant it reads, with its scales."""
    assert meaning(keras_dbq.export.unpack_tflite(content(f"{name}_packed"))) == meaning(content(f"{name}_int8"))


def meaning(data: bytes) -> list[tuple]:
    """What a file computes, without the order of its buffers and the names of its constants."""
    model = fb.load_model(data)
    tensors = model.subgraphs[0].tensors

    def described(index: int) -> tuple:
        tensor = tensors[index]
        constant = fb.is_constant(model, index)
        values = fb.constant(model, index) if constant else np.zeros(0)
        stored = (values.dtype.str, values.shape, values.tobytes())
        activation = "" if constant else fb.text(tensor.name)
        q = tensor.quantization
        zero_points = () if q is None or q.zeroPoint is None else tuple(np.ravel(q.zeroPoint).tolist())
        scales = () if q is None or q.scale is None else tuple(np.ravel(q.scale).tolist())
        return activation, stored, scales, zero_points

    return [
        (fb.op_name(model, op), tuple(map(described, op.inputs)), tuple(map(described, op.outputs)), options(op))
        for op in model.subgraphs[0].operators
    ]


def options(op) -> str:
    """Strides, padding, fused activation and the like, as text."""
    return json.dumps(vars(op.builtinOptions) if op.builtinOptions else {}, sort_keys=True, default=str)


def normal(data: bytes) -> bytes:
    """The file with builtin operators alone, without its signature (0.1's had the converter's names), and slim."""
    model = fb.load_model(keras_dbq.export.unpack_tflite(data))
    model.signatureDefs = None
    slim.slim(model)
    return fb.save_model(model)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_loaded_model_exports_the_committed_file(name, ending):
    """Every byte of the network: 0.1 packed some 8-bit layers, too, and its int8 files were not slim."""
    q_model = keras.models.load_model(GOLDEN / f"{name}.{ending}", compile=False)
    encodings = ("packed", "int8") if ending == "keras" else ("packed",)
    for encoding in encodings:
        report = keras_dbq.export_tflite(q_model, None, encoding, strict=encoding == "packed" and "fat" not in name)
        assert normal(report.data) == normal(content(f"{name}_{encoding}")), encoding


FORMAT_2 = REPOSITORY / "tests" / "golden" / "format_2"


@pytest.mark.parametrize("name", ["tsq_2", "tsq_4"])
def test_files_of_format_version_2(name):
    """The stock interpreter's answer to the int8 file, by every path; packed, the layers count thresholds."""
    packed, int8 = ((FORMAT_2 / f"{name}_{encoding}.tflite").read_bytes() for encoding in ("packed", "int8"))
    with np.load(FORMAT_2 / "answers.npz") as stored:
        x, expected = stored["x"], stored[name]
    assert len(np.unique(expected)) > 10
    for path in (keras_dbq.Interpreter(packed), Engine(int8), keras_dbq.Interpreter(int8, delegate=False)):
        np.testing.assert_array_equal(path.predict(x) if hasattr(path, "predict") else path.run(x), expected)
    np.testing.assert_array_equal(Engine(packed).run(x), expected)
    np.testing.assert_array_equal(Engine(keras_dbq.export.unpack_tflite(packed)).run(x), expected)
    assert keras_dbq.pack_tflite(int8).data == packed
    thresholds = [operator.thresholds for operator in contents(packed).operators if operator.op.startswith("Dbq")]
    assert thresholds == [2 ** int(name[-1]) - 1] * 3
