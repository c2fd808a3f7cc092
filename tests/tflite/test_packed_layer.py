"""What an operator becomes, or why it stays."""

import numpy as np
import pytest

from keras_dbq.export import pack_tflite
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.pack import pack_bytes
from tests.tflite.cases import CASES, edited, operators, packed_constants, set_weights


def no_bias(model, operator, tensors):
    operator.inputs = np.array([*operator.inputs[:2], -1], np.int32)


def per_tensor_scale(model, operator, tensors):
    tensors[operator.inputs[1]].quantization = fb.quantization(np.float32(0.01))


def test_missing_bias_is_zeros():
    data = pack_tflite(edited(CASES["dense"], no_bias), strict=True).data
    np.testing.assert_array_equal(packed_constants(data)[3], np.zeros(7, np.int32))


def test_one_scale_for_all_channels_is_repeated():
    data = pack_tflite(edited(CASES["dense"], per_tensor_scale), strict=True).data
    np.testing.assert_array_equal(packed_constants(data)[2][2:], np.full(7, np.float32(0.01)))


def zero_scale(model, operator, tensors):
    tensors[operator.inputs[1]].quantization.scale = np.zeros(9, np.float32)


def weight_zero_point(model, operator, tensors):
    tensors[operator.inputs[1]].quantization.zeroPoint = np.ones(9, np.int64)


def grouped(model, operator, tensors):
    tensors[operator.inputs[0]].shape = np.array([1, 7, 6, 10], np.int32)


def tanh(model, operator, tensors):
    operator.builtinOptions.fusedActivationFunction = fb.schema.ActivationFunctionType.TANH


def float_output(model, operator, tensors):
    tensors[operator.outputs[0]].type = fb.schema.TensorType.FLOAT32


def large_bias(model, operator, tensors):
    tensors[operator.inputs[2]].buffer = fb.add_buffer(model, np.full(9, 2**31 - 1, np.int32))


def computed_weights(model, operator, tensors):
    tensors[operator.inputs[1]].buffer = 0


def long_bias(model, operator, tensors):
    tensors[operator.inputs[2]].type = fb.schema.TensorType.INT64


@pytest.mark.parametrize(
    "edit, reason",
    [
        (set_weights(np.arange(405) % 11), "11 levels in a channel, two branches hold 9"),
        (zero_scale, "a scale is not finite and positive"),
        (weight_zero_point, "weights have a zero point"),
        (grouped, "grouped convolution"),
        (tanh, "fused activation TANH"),
        (float_output, "input, weights, output are INT8, INT8, FLOAT32, not INT8"),
        (large_bias, "a bias of 2147483647, int32 has room for 2146026322 beside 45 products"),
        (computed_weights, "weights are computed by the graph"),
        (long_bias, "bias is not a constant int32 vector"),
    ],
)
def test_what_cannot_be_packed_stays_and_says_why(edit, reason):
    """Not by pack_tflite: some of these files are not whole, which it refuses before it looks at layers."""
    source = edited(CASES["conv"], edit)
    report = pack_bytes(source)
    assert operators(report.data) == ["CONV_2D"]
    assert report.layers[0].branches == 0 and report.layers[0].encoding == "int8"
    with pytest.raises(ValueError, match=f"strict: expected every ternary layer packed, 1 are not .*y: {reason}"):
        pack_bytes(source, strict=True)
    assert pack_bytes(source, strict=True, ternary_layers=[]).layers[0].note == ""
