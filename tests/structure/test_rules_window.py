"""Operators with a window or weights: what fits passes, one thing that does not is named."""

import numpy as np
import pytest

from keras_dbq.structure import check_file
from keras_dbq.tflite import flatbuffer as fb
from tests.structure.files import corpus, edited, ints, one_op, options, refused, weights

CONV = {"strideH": 2, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
POOL = {"strideH": 2, "strideW": 1, "filterHeight": 2, "filterWidth": 3}
BIAS = np.zeros(6, np.int32)


def conv(x=(1, 7, 6, 4), w=(6, 3, 3, 4), y=(1, 4, 6, 6), bias=BIAS, **fields):
    return one_op("CONV_2D", [x, weights(*w), bias], [y], options("Conv2DOptions", **{**CONV, **fields}))


def depthwise(w=(1, 3, 3, 8), multiplier=2, bias=True, y=(1, 4, 6, 8)):
    chosen = options("DepthwiseConv2DOptions", **CONV, depthMultiplier=multiplier)
    inputs = [(1, 7, 6, 4), weights(*w), np.zeros(8, np.int32)]
    return one_op("DEPTHWISE_CONV_2D", inputs if bias else inputs[:2], [y], chosen)


def dense(x=(2, 3, 4), w=(5, 4), y=(6, 5), **fields):
    return one_op("FULLY_CONNECTED", [x, weights(*w), None], [y], options("FullyConnectedOptions", **fields))


def transposed(shape=(1, 13, 6, 5), w=(5, 3, 3, 4), x=(1, 7, 6, 4), y=None):
    chosen = options("TransposeConvOptions", strideH=2, strideW=1)
    return one_op("TRANSPOSE_CONV", [ints(*shape), weights(*w), x], [y or shape], chosen)


def pool(y=(1, 4, 6, 4), **fields):
    return one_op("MAX_POOL_2D", [(1, 7, 6, 4)], [y], options("Pool2DOptions", **{**POOL, **fields}))


def matmul(a=(2, 3, 4), b=(4, 5), y=(2, 3, 5), **fields):
    return one_op("BATCH_MATMUL", [a, b], [y], options("BatchMatMulOptions", **fields))


@pytest.mark.parametrize(
    "data",
    [
        conv(),
        conv(padding=1, y=(1, 3, 4, 6)),
        conv(w=(6, 3, 3, 2)),  # two groups
        conv(dilationHFactor=2, dilationWFactor=2),
        depthwise(),
        depthwise(multiplier=0),  # old files leave it to the shapes
        dense(),
        dense(y=(2, 3, 5), keepNumDims=True),
        transposed(),
        pool(),
        pool(padding=1, y=(1, 3, 4, 4)),
        pool(filterHeight=500),  # larger than the map
        matmul(),
        matmul(b=(5, 4), adjY=True),
    ],
)
def test_what_fits_passes(data):
    check_file(data)


@pytest.mark.parametrize(
    "data, message",
    [
        (conv(y=(1, 4, 6, 5)), r"\(CONV_2D\), tensor .*: expected the shape \(1, 4, 6, 6\), got \(1, 4, 6, 5\)"),
        (conv(w=(6, 3, 3, 3)), "expected input channels a multiple of the filter's 3, got 4 channels, 6 filters"),
        (conv(w=(5, 3, 3, 2)), "expected input channels a multiple of the filter's 2, got 4 channels, 5 filters"),
        (conv(strideH=0), "expected stride_h from 1 to 1048576, got 0"),
        (conv(strideW=-1), "expected stride_w from 1 to 1048576, got -1"),
        (conv(dilationWFactor=0), "expected dilation_w from 1 to 1048576, got 0"),
        (conv(dilationWFactor=2**20), "expected a kernel that reaches at most"),
        (conv(dilationWFactor=2**10), "expected at most 1024 pixels of padding, got 2043 around 6"),
        (conv(padding=2), "expected padding from 0 to 1, got 2"),
        (conv(fusedActivationFunction=6), "expected activation from 0 to 5, got 6"),
        (conv(padding=1, w=(6, 9, 3, 4)), "expected a kernel that fits into an input of 7, got 9 taps"),
        (conv(bias=np.zeros(5, np.int32)), "expected a bias of 6"),
        (conv(bias=np.zeros(6, np.int64)), "expected a bias of INT32, got INT64"),
        (conv(x=(1, 7, 6)), "expected input 0 of rank 4"),
        (one_op("CONV_2D", [(1, 7, 6, 4), weights(6, 3, 3, 4), BIAS], [(1, 4, 6, 6)]), "expected stride_h from 1"),
        (depthwise(w=(1, 3, 3, 6)), "expected a multiple of the 4 input channels as depthwise filters"),
        (depthwise(w=(2, 3, 3, 8)), "expected a multiple of the 4 input channels as depthwise filters"),
        (depthwise(multiplier=3), "expected depth multiplier 2, got 3"),
        (depthwise(bias=False), "expected a third input, the bias, got two inputs"),
        (dense(x=(2, 3, 5)), "expected an input whose size is divisible by the 4 input features"),
        (dense(x=(2, 6, 2), keepNumDims=True), "expected an input whose last axis is the 4 input features"),
        (dense(weightsFormat=2), "expected weights_format from 0 to 1, got 2"),
        (dense(y=(5, 6)), r"expected the shape \(6, 5\), got \(5, 6\)"),
        (transposed(shape=(1, 16, 6, 5)), "expected an output that a window of .* takes back to"),
        (transposed(shape=(1, 13, 6, 7)), "expected an output shape of 4 sizes that ends in 5"),
        (transposed(w=(5, 3, 3, 3)), "expected 3 input channels, got 4"),
        (pool(filterHeight=0), "expected filter_h from 1 to 1048576, got 0"),
        (pool(filterWidth=5000), "expected at most 1024 pixels of padding"),
        (matmul(b=(3, 5)), "expected 4 rows in the second matrix"),
        (matmul(a=(1, 1, 1, 1, 3, 4)), "expected matrices of 2 to 5 axes"),
    ],
)
def test_what_does_not_fit_is_refused(data, message):
    refused(data, message)


def scaled(scale):
    def edit(model, graph):
        tensor = graph.tensors[graph.operators[0].inputs[1]]
        tensor.quantization = fb.quantization(np.float32(scale))

    return edit


def test_a_multiplier_that_no_kernel_takes():
    """One scale of the weights; both activations have 0.5."""
    check_file(edited(conv(), scaled(255)))
    refused(edited(conv(), scaled(256)), "expected scales of input [*] weights / output below 256, got 256")


@pytest.mark.parametrize(
    "index, change, message",
    [
        (1, {"type": fb.schema.TensorType.FLOAT32}, "expected two matrices of INT8, got FLOAT32"),
        (1, {"quantization": None}, "expected one scale of tensor"),
        (2, {"type": fb.schema.TensorType.FLOAT32}, "expected an output of INT8, got FLOAT32"),
    ],
)
def test_matrices_that_no_kernel_takes(index, change, message):
    def edit(model, graph):
        operator = graph.operators[0]
        vars(graph.tensors[[*operator.inputs, *operator.outputs][index]]).update(change)

    refused(edited(matmul(), edit), message)


def packed(change):
    """The packed file after change(values of params) of its first packed layer."""

    def edit(model, graph):
        operator = next(op for op in graph.operators if len(op.inputs) == 6)
        values = fb.constant(model, operator.inputs[5]).copy()
        change(values)
        graph.tensors[operator.inputs[5]].buffer = fb.add_buffer(model, values)

    return edited(corpus("joins_packed_2"), edit)


def put(index, value):
    def change(values):
        values[index] = value

    return change


@pytest.mark.parametrize(
    "index, value, message",
    [
        (1, 3, "expected 1 or 2 branches"),
        (1, 1, "expected .* values in input 1"),
        (2, 0, "expected 1 or 2 branches, sizes"),
        (2, 3, "expected .* values in input 1"),
        (4, 2**31 - 1, "expected 1 or 2 branches, sizes"),
        (5, 5, "expected 10 values in input 2"),
        (6, 0, "expected 1 or 2 branches, sizes"),
        (6, 2, "expected the shape"),
        (10, 2, "expected padding, activation, zero points"),
        (11, 4, "expected padding, activation, zero points"),
        (13, 128, "expected padding, activation, zero points"),
    ],
)
def test_params_of_a_packed_layer(index, value, message):
    refused(packed(put(index, value)), r"operator 3 \(DbqConv2D\).*" + message)


def counting(change):
    """The file of format version 2 after change(model, graph, its first operator that counts)."""

    def edit(model, graph):
        change(model, graph, next(op for op in graph.operators if len(op.inputs) == 7))

    return edited(corpus("counts_packed"), edit)


def replace_thresholds(values):
    def change(model, graph, operator):
        operator.inputs[6] = fb.add_tensor(model, values)

    return change


def test_thresholds_of_a_packed_layer():
    def drop(model, graph, operator):
        operator.inputs = operator.inputs[:6]

    def compute(model, graph, operator):
        operator.inputs[6] = operator.inputs[0]

    refused(counting(drop), r"\(DbqConv2D\).* expected 16 constant int32 values as params")
    wanted = r"\(DbqConv2D\).* expected thresholds as a constant int32 tensor \[1..15, 4\]"
    refused(counting(compute), wanted)
    for shape in ((3, 5), (16, 4), (0, 4), (12,)):
        refused(counting(replace_thresholds(np.zeros(shape, np.int32))), wanted)
    refused(counting(replace_thresholds(np.zeros((3, 4), np.float32))), wanted)


def test_a_packed_layer_needs_constants():
    def edit(model, graph):
        operator = graph.operators[3]
        operator.inputs = np.array([*operator.inputs[:4], operator.inputs[0], operator.inputs[5]], np.int32)

    refused(edited(corpus("joins_packed_2"), edit), "expected bias as a constant tensor, got an activation")
