"""Indices, options, the order of operators, shapes that follow from the inputs, memory."""

import numpy as np
import pytest

from keras_dbq.structure import check_file
from keras_dbq.tflite import flatbuffer as fb
from tests.structure.files import corpus, edited, one_op, options, refused

INT8, PACKED = corpus("joins_stock"), corpus("joins_packed_2")


def tensor_elsewhere(model, graph):
    graph.operators[0].inputs[0] = 1000


def no_such_output(model, graph):
    graph.operators[0].outputs[0] = -1


def graph_output_elsewhere(model, graph):
    graph.outputs[0] = 1000


def too_few(model, graph):
    graph.operators[4].inputs = graph.operators[4].inputs[:1]


def float_only(model, graph):
    """An operator without a rule here, whose kernel takes the codes for float32."""
    code = next(o.opcodeIndex for o in graph.operators if fb.op_name(model, o) == "LOGISTIC")
    model.operatorCodes[code].builtinCode = model.operatorCodes[code].deprecatedBuiltinCode = 80  # FAKE_QUANT


def left_out(model, graph):
    graph.operators[4].inputs[1] = -1


def other_options(model, graph):
    graph.operators[0].builtinOptionsType = fb.schema.BuiltinOptions.Pool2DOptions
    graph.operators[0].builtinOptions = fb.schema.Pool2DOptionsT()


def unknown_code(model, graph):
    model.operatorCodes[0].builtinCode = 5000


def version_zero(model, graph):
    model.operatorCodes[0].version = 0


def swapped(model, graph):
    graph.operators[0], graph.operators[1] = graph.operators[1], graph.operators[0]


def written_twice(model, graph):
    graph.operators[1].outputs = graph.operators[0].outputs


def into_a_constant(model, graph):
    graph.operators[0].outputs = graph.operators[0].inputs[1:2]


def never_written(model, graph):
    del graph.operators[-1]


def another_shape(model, graph):
    graph.tensors[graph.operators[0].outputs[0]].shape = np.array([1, 3, 3, 5], np.int32)


def another_batch(model, graph):
    tensor = graph.tensors[graph.operators[4].outputs[0]]
    tensor.shape, tensor.shapeSignature = np.array([2**24, *tensor.shape[1:]], np.int32), None


def open_but_not_one(model, graph):
    graph.tensors[graph.operators[4].outputs[0]].shape[0] = 7


@pytest.mark.parametrize(
    "edit, message",
    [
        (tensor_elsewhere, r"operator 0 \(CONV_2D\): expected tensor indices below 21, got 1000"),
        (no_such_output, r"operator 0 \(CONV_2D\): expected tensor indices below 21, got -1"),
        (graph_output_elsewhere, "outputs of the graph: expected tensor indices below 21, got 1000"),
        (too_few, r"operator 4 \(ADD\): expected 2 to 2 inputs, got 1"),
        (float_only, r"operator 1 \(FAKE_QUANT\): expected tensors of float or of whole numbers, got INT8"),
        (left_out, r"operator 4 \(ADD\): expected 2 inputs that are there"),
        (other_options, r"operator 0 \(CONV_2D\): expected options Conv2DOptions, got Pool2DOptions"),
        (unknown_code, "operator code 0: expected a known operator of version 1 or later, got"),
        (version_zero, "operator code 0: expected a known operator of version 1 or later, got"),
        (swapped, r"operator 0 \(LOGISTIC\): expected inputs that were computed before, got tensor 9"),
        (written_twice, r"operator 1 \(LOGISTIC\): expected outputs that nothing else writes"),
        (into_a_constant, r"operator 0 \(CONV_2D\): expected outputs that nothing else writes"),
        (never_written, "outputs of the graph: expected tensors that an operator computes, got tensor 20"),
        (another_shape, r"shape signature like the shape|expected the shape \(-1, 3, 3, 4\), got \(1, 3, 3, 5\)"),
        (another_batch, r"expected the shape \(-1, 3, 3, 4\), got \(16777216, 3, 3, 4\)"),
        (open_but_not_one, "expected 1 where the shape signature .* is open, got"),
    ],
)
def test_one_thing_is_wrong(edit, message):
    refused(edited(INT8, edit), message)


def test_the_batch_of_a_slimmed_file_has_to_be_the_inputs():
    """Inner tensors of our exports have no signature: 1 stands for the open batch."""

    def edit(model, graph):
        graph.tensors[graph.operators[0].outputs[0]].shape[0] = 3

    refused(edited(PACKED, edit), r"expected the shape \(-1, 3, 3, 4\), got \(3, 3, 3, 4\)")


def test_a_file_of_another_batch_is_taken_by_its_numbers():
    """A tool has written 4 for the batch everywhere, and left the signatures open."""

    def edit(model, graph):
        for tensor in graph.tensors:
            if tensor.buffer == 0 or not fb.buffer_bytes(model, tensor):
                tensor.shape[0] = 4

    check_file(edited(INT8, edit))


def test_an_operator_that_is_not_known_here_is_left_to_the_runtime():
    check_file(one_op("SomebodysOp", [(1, 4), (2,)], [(7, 7), (3,)]))
    order = options("ReverseSequenceOptions")
    check_file(one_op("REVERSE_SEQUENCE", [(1, 4), np.array([1], np.int32)], [(1, 4)], order))


def test_memory_has_a_bound():
    size = np.array([2**15, 2**15], np.int32)
    data = one_op("RESIZE_NEAREST_NEIGHBOR", [(1, 4, 4, 2), size], [(1, 2**15, 2**15, 2)])
    refused(data, "tensors: expected at most 1073741824 bytes at one time in a file of")


def test_tables_that_two_entries_share_are_two_tensors():
    """A damaged offset leads to the table of another tensor of the same shape: the file runs, or not, but is read."""
    check_file(_shared())


def _shared() -> bytes:
    """Tensor 13 (of ADD) has the table of tensor 14 (of MUL)."""
    data = bytearray(INT8)
    root = int.from_bytes(data[0:4], "little")
    slots = root - int.from_bytes(data[root : root + 4], "little", signed=True)

    def follow(at: int) -> int:
        return at + int.from_bytes(data[at : at + 4], "little")

    graphs = follow(root + int.from_bytes(data[slots + 8 : slots + 10], "little"))
    graph = follow(graphs + 4)
    inner = graph - int.from_bytes(data[graph : graph + 4], "little", signed=True)
    tensors = follow(graph + int.from_bytes(data[inner + 4 : inner + 6], "little"))
    first, second = tensors + 4 + 4 * 13, tensors + 4 + 4 * 14
    data[first : first + 4] = (follow(second) - first).to_bytes(4, "little")
    return bytes(data)
