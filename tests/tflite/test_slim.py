"""Every step of slimming: what it drops, how many bytes that saves, and that the result stays."""

import numpy as np
import pytest

from keras_dbq.export import pack_tflite
from keras_dbq.runtime.interpreter import Interpreter
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite import slim
from tests.tflite.cases import CASES, edited, set_weights
from tests.tflite_ops import packed_models

CASE = CASES["depthwise"]


def with_everything_droppable(model, operator, tensors):
    """A layer that stays int8, with all that a converter leaves in a file."""
    set_weights(np.arange(45) % 11)(model, operator, tensors)
    weights = tensors[operator.inputs[1]]
    weights.quantization.min = weights.quantization.max = np.zeros(5, np.float32)
    weights.shapeSignature = weights.shape
    fb.set_metadata(model, "min_runtime_version", b"1.14.0" + bytes(10))
    fb.add_tensor(model, np.zeros(9, np.int32), "unused")


@pytest.fixture(scope="module")
def source():
    return edited(CASE, with_everything_droppable)


@pytest.mark.parametrize(
    "step, saved",
    [
        ("constant_names", 32),
        ("ranges", 32),
        ("shape_signatures", 8),
        ("metadata", 96),
        ("unused", 88),
        ("buffers", 144),
        ("vectors", 80),
    ],
)
def test_a_step_saves_bytes_and_keeps_the_result(source, step, saved):
    without = pack_tflite(source, slim_steps=[s for s in slim.SLIM_STEPS if s != step])
    full = pack_tflite(source)
    assert full.layers[0].encoding == "int8" and (len(source), len(full.data)) == (1264, 800)
    assert len(without.data) - len(full.data) == saved
    x = packed_models.random_input(CASE)
    expected = Interpreter(source, delegate=False).predict(x)
    for data in (full.data, without.data):
        np.testing.assert_array_equal(Interpreter(data, delegate=False).predict(x), expected)


def test_the_table_above_has_every_step():
    marks = test_a_step_saves_bytes_and_keeps_the_result.pytestmark[0].args[1]
    assert tuple(step for step, _ in marks) == slim.SLIM_STEPS


def test_names_of_activations_stay(source):
    model = fb.load_model(source)
    slim.drop_constant_names(model)
    assert [fb.text(tensor.name) for tensor in model.subgraphs[0].tensors] == ["x", "y", "", "", ""]


def test_our_metadata_stays(source):
    model = fb.load_model(source)
    fb.set_metadata(model, fb.METADATA_NAME, b"{}")
    slim.drop_metadata(model)
    assert [fb.text(entry.name) for entry in model.metadata] == [fb.METADATA_NAME]


def test_shapes_of_the_ends_stay(source):
    """They say that the batch is free."""
    model = fb.load_model(source)
    for tensor in model.subgraphs[0].tensors:
        tensor.shapeSignature = np.array([-1, 2], np.int32)
    slim.drop_shape_signatures(model)
    assert [tensor.shapeSignature is not None for tensor in model.subgraphs[0].tensors] == [True, True] + 3 * [False]


def test_dropping_moves_indices_of_operators_and_signatures(source):
    model = fb.load_model(source)
    graph = model.subgraphs[0]
    graph.tensors.insert(0, graph.tensors.pop())  # the unused one first
    for holder, attribute in fb.index_fields(model):
        setattr(holder, attribute, np.array(getattr(holder, attribute)) + 1)
    entry = fb.schema.TensorMapT()
    entry.name, entry.tensorIndex = "x", 1
    signature = fb.schema.SignatureDefT()
    signature.inputs, signature.outputs = [entry], []
    model.signatureDefs = [signature]
    slim.drop_unused(model)
    assert [fb.text(tensor.name) for tensor in graph.tensors] == ["x", "y", "weights", "bias"]
    assert graph.inputs.tolist() == [0] and graph.operators[0].inputs.tolist() == [0, 2, 3]
    assert model.signatureDefs[0].inputs[0].tensorIndex == 0


def test_equal_buffers_are_kept_once(source):
    model = fb.load_model(source)
    same = [fb.add_tensor(model, np.arange(3, dtype=np.int32), name) for name in ("a", "b")]
    slim.share_buffers(model)
    tensors = model.subgraphs[0].tensors
    assert tensors[same[0]].buffer == tensors[same[1]].buffer != 0
    assert tensors[0].buffer == 0 and model.buffers[0].data is None  # buffer 0 stays the empty one
    np.testing.assert_array_equal(fb.constant(model, same[1]), [0, 1, 2])


def test_unknown_steps_are_errors(source):
    with pytest.raises(ValueError, match="slim_steps: expected names out of constant_names, .*, vectors, got nope"):
        slim.slim(fb.load_model(source), ["ranges", "nope"])
