"""Operators of one value, broadcasting, reductions."""

import numpy as np
import pytest

from keras_dbq.structure import check_file
from keras_dbq.tflite import flatbuffer as fb
from tests.structure.files import edited, ints, one_op, options, refused


def add(a=(1, 3, 4), b=(4,), y=(1, 3, 4), **fields):
    return one_op("ADD", [a, b], [y], options("AddOptions", **fields))


def mean(axes=(1, 2), y=(1, 4), keep=False):
    return one_op("MEAN", [(1, 3, 5, 4), ints(*axes)], [y], options("ReducerOptions", keepDims=keep))


def typed(number):
    def edit(model, graph):
        graph.tensors[graph.operators[0].outputs[0]].type = number

    return edit


def scaled(which, scale):
    def edit(model, graph):
        graph.tensors[which(graph)].quantization = fb.quantization(np.float32(scale))

    return edit


def first(graph):
    return graph.operators[0].inputs[0]


def result(graph):
    return graph.operators[0].outputs[0]


@pytest.mark.parametrize(
    "data",
    [
        one_op("RELU", [(1, 3)], [(1, 3)]),
        one_op("SOFTMAX", [(1, 3)], [(1, 3)], options("SoftmaxOptions", beta=1.0)),
        add(),
        add(a=(2, 1, 4), b=(1, 3, 1), y=(2, 3, 4)),
        mean(),
        mean(axes=(-2, 1)),
        mean(y=(1, 1, 1, 4), keep=True),
        one_op("PRELU", [(1, 3, 4), np.ones((1, 4), np.int8)], [(1, 3, 4)]),
        one_op("SELECT_V2", [(1, 3), (1, 3), (1,)], [(1, 3)], options("SelectV2Options")),
        one_op("ADD_N", [(1, 3), (1, 3), (1, 3)], [(1, 3)], options("AddNOptions")),
        one_op("ARG_MAX", [(1, 3, 5), ints(-1)], [(1, 3)], options("ArgMaxOptions")),
    ],
)
def test_what_fits_passes(data):
    check_file(data)


@pytest.mark.parametrize(
    "data, message",
    [
        (one_op("RELU", [(1, 3)], [(1, 4)]), r"\(RELU\), tensor .*: expected the shape \(1, 3\), got \(1, 4\)"),
        (one_op("RELU", [(1, 3)], [(3,)]), r"expected the shape \(1, 3\), got \(3,\)"),
        (edited(one_op("RELU", [(1, 3)], [(1, 3)]), typed(0)), "expected an output of INT8, got FLOAT32"),
        (one_op("RELU", [(1, 3), (1, 3)], [(1, 3)]), "expected 1 to 1 inputs, got 2"),
        (one_op("SOFTMAX", [(1, 3)], [(1, 3)], options("SoftmaxOptions", beta=float("nan"))), "expected a beta"),
        (one_op("SOFTMAX", [(1, 3)], [(1, 3)], options("SoftmaxOptions", beta=0.0)), "expected a beta"),
        (one_op("SOFTMAX", [()], [()], options("SoftmaxOptions", beta=1.0)), "expected a beta .*, an axis"),
        (add(b=(3,)), r"expected shapes that broadcast, got \(1, 3, 4\) and \(3,\)"),
        (add(fusedActivationFunction=9), "expected activation from 0 to 5, got 9"),
        (add(b=ints(1, 2, 3, 4)), "expected two inputs of INT8, got INT32"),
        (edited(add(), typed(2)), "expected an output of INT8, got INT32"),
        (edited(add(), scaled(first, 1e9)), "expected scales of inputs and output that are near each other"),
        (edited(add(), scaled(result, 1e30)), "expected scales of inputs and output that are near each other"),
        (edited(add(), scaled(result, 1e-30)), "expected scales of inputs and output that are near each other"),
        (mean(axes=(1, 4)), r"expected an axis of 4, got 4"),
        (mean(axes=(1,)), r"expected the shape \(1, 5, 4\), got \(1, 4\)"),
        (one_op("PRELU", [(1, 3, 4), np.ones((1, 1, 3, 4), np.int8)], [(1, 3, 4)]), "expected an alpha that"),
        (one_op("ARG_MAX", [(1, 3, 5), ints(3)], [(1, 3)], options("ArgMaxOptions")), "expected an axis of 3, got 3"),
    ],
)
def test_what_does_not_fit_is_refused(data, message):
    refused(data, message)


def test_quantized_arithmetic_needs_scales():
    def edit(model, graph):
        graph.tensors[first(graph)].quantization = None

    refused(edited(add(), edit), "expected one scale of tensor 0 .*, got 0")


def normalization(shape=(2, 3, 4), **fields):
    return one_op("L2_NORMALIZATION", [shape], [shape], options("L2NormOptions", **fields))


@pytest.mark.parametrize(
    "data, message",
    [
        (edited(normalization(), scaled(result, 1 / 64)), "expected the output's scale 1/128, got 0.015625"),
        (normalization(fusedActivationFunction=1), "expected 1 to 4 axes and no activation"),
        (normalization((1, 1, 1, 1, 4)), "expected 1 to 4 axes and no activation"),
    ],
)
def test_normalization(data, message):
    check_file(edited(normalization(), scaled(result, 1 / 128)))
    refused(data, message)
