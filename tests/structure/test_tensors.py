"""Shapes against bytes, types, buffers and quantization of single tensors."""

import numpy as np
import pytest

from keras_dbq.structure import check_file
from keras_dbq.tflite import flatbuffer as fb
from tests.structure.files import corpus, edited, ints, refused

INT8 = corpus("joins_stock")


def weights_of(graph):
    """The tensor of the first convolution's weights, four channels."""
    return graph.tensors[graph.operators[0].inputs[1]]


def source_of(graph):
    return graph.tensors[graph.inputs[0]]


def setting(choose, **fields):
    """An edit that sets fields of the tensor that choose(graph) gives; `scale`, `zeroPoint` ... of its quantization."""

    def edit(model, graph):
        tensor = choose(graph)
        for name, value in fields.items():
            holder = tensor if hasattr(tensor, name) else tensor.quantization
            assert hasattr(holder, name)
            setattr(holder, name, value)

    return edit


def buffer_far_away(model, graph):
    buffer = model.buffers[weights_of(graph).buffer]
    buffer.data, buffer.offset, buffer.size = None, 4000, 10**6


@pytest.mark.parametrize(
    "edit, message",
    [
        (setting(weights_of, type=100), "tensor 8 .*: expected a type below 23, got 100"),
        (setting(weights_of, shape=ints(4, 3, 3, -3)), "expected sizes of at least 0, got"),
        (setting(weights_of, shape=ints(4, 3, 3, 4)), r"expected 144 bytes for \(4, 3, 3, 4\) INT8, got 108"),
        (setting(weights_of, type=fb.schema.TensorType.INT64), "expected 864 bytes"),
        (setting(weights_of, buffer=1000), "expected a buffer below"),
        (buffer_far_away, r"buffer .*: expected bytes inside of the [0-9]+, got 4000 \+ 1000000"),
        (setting(source_of, shapeSignature=ints(-1, 6, 5, 3)), "expected a shape signature like the shape"),
        (setting(source_of, shapeSignature=ints(-1, 6, 6)), "expected a shape signature like the shape"),
        (setting(weights_of, scale=np.full(4, np.nan, np.float32)), "expected scales that are finite, > 0"),
        (setting(weights_of, scale=np.full(4, np.inf, np.float32)), "expected scales that are finite, > 0"),
        (setting(weights_of, scale=np.full(4, -0.5, np.float32)), "expected scales that are finite, > 0"),
        (setting(weights_of, scale=np.zeros(4, np.float32)), "expected scales that are finite, > 0"),
        (setting(weights_of, scale=np.full(4, 1e-42, np.float32)), "expected scales .* not subnormal, got"),
        (setting(weights_of, scale=np.ones(3, np.float32)), "expected 1 or 4 scales, got 3"),
        (setting(weights_of, zeroPoint=np.zeros(3, np.int64)), "expected 4 zero points, got 3"),
        (setting(weights_of, zeroPoint=np.full(4, 128)), "expected zero points from -128 to 127, got 128"),
        (setting(weights_of, quantizedDimension=4), "axis of its scales: expected one of 4 axes, got 4"),
        (setting(weights_of, quantizedDimension=-1), "axis of its scales: expected one of 4 axes, got -1"),
        (setting(source_of, sparsity=fb.schema.SparsityParametersT()), "expected plain values in this file"),
    ],
)
def test_one_tensor_is_wrong(edit, message):
    refused(edited(INT8, edit), message)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_many_scales_are_looked_at_to_the_last(value):
    """More than are read as a tuple."""

    def edit(model, graph):
        fb.add_tensor(model, np.zeros(300, np.int8), "long", fb.quantization(np.ones(300), 0, 0))
        graph.tensors[-1].quantization.scale[299] = value

    refused(edited(INT8, edit), "'long': expected scales that are finite, > 0")


def test_sizes_below_a_byte_and_unsized_types_pass():
    def edit(model, graph):
        index = fb.add_tensor(model, np.zeros(3, np.int8), "half")
        graph.tensors[index].type, graph.tensors[index].shape = fb.schema.TensorType.INT4, np.array([5], np.int32)
        graph.tensors[fb.add_tensor(model, np.zeros(9, np.uint8), "text")].type = fb.schema.TensorType.STRING

    check_file(edited(INT8, edit))
