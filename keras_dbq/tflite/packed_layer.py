"""What one builtin operator of an int8 file becomes, or the reason why it stays; decided by its integers alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_dbq.limits import bias_room
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.levels import Branches, encode_trits, find_branches
from keras_dbq.tflite.operators import KERNELS, channel_columns, from_columns
from keras_dbq.tflite.params import FORMAT_VERSION, THRESHOLD_VERSION, Params
from keras_dbq.tflite.thresholds import Table, count_thresholds

_ACTIVATIONS = {"NONE", "RELU", "RELU_N1_TO_1", "RELU6"}
_ACTIVATION_NAMES = {v: k for k, v in vars(fb.schema.ActivationFunctionType).items() if isinstance(v, int)}


@dataclass(frozen=True)
class PackedLayer:
    """The constants of a Dbq operator."""

    index: int  # of the operator
    branches: Branches
    codes: np.ndarray  # uint8 [B * ceil(W / 5)]
    scales: np.ndarray  # float32 [2 + M]
    bias: np.ndarray  # int32 [M]
    params: Params
    thresholds: np.ndarray | None = None  # int32 [n, M], of version 2
    table: Table | None = None  # which they replace


class NotTernary(Exception):
    """Why a layer stays as it is; never leaves this package."""


def packed_layer(model: Any, index: int) -> PackedLayer:
    """The packed form of operator `index`.

    Raises:
      NotTernary: it stays as it is.
    """
    graph = model.subgraphs[0]
    operator = graph.operators[index]
    name = fb.op_name(model, operator)
    _check_types(model, operator)
    weights = fb.constant(model, operator.inputs[1])
    _check_geometry(operator, name, fb.shape_of(graph.tensors[operator.inputs[0]]), weights.shape)
    columns = channel_columns(weights, name)
    bias = _bias(model, operator, columns.shape[1])
    branches = find_branches(columns)
    if branches is None:
        raise NotTernary(f"{_levels(columns)} levels in a channel, two branches hold 9")
    _check_bias(bias, len(columns))
    # The codes follow the memory order of the weights that they replace.
    trits = np.stack([from_columns(plane, weights.shape, name).reshape(-1) for plane in branches.codes])
    scales, params = _scales(graph, operator, len(bias)), _params(graph, operator, name, len(trits))
    return PackedLayer(index, branches, encode_trits(trits), scales, bias, params)


def with_thresholds(layer: PackedLayer, table: Table, name: str) -> PackedLayer:
    """The layer and the table behind it as one operator, where thresholds say the same; else the layer.

    choice: not for depthwise layers, which networks of few-bit activations do not have.
    """
    length = layer.branches.codes.shape[1]
    counted = count_thresholds(table.codes, layer.scales, layer.bias, layer.params, length)
    if counted is None or name == "DEPTHWISE_CONV_2D":
        return layer
    thresholds, lowest = counted
    params = layer.params._replace(format_version=THRESHOLD_VERSION, lowest_code=lowest)
    return replace(layer, params=params, thresholds=thresholds, table=table)


def _check_types(model: Any, operator: Any) -> None:
    """NotTernary where the layer is no plain int8 layer."""
    tensors = model.subgraphs[0].tensors
    kernel = tensors[operator.inputs[1]]
    types = [tensor.type for tensor in (tensors[operator.inputs[0]], kernel, tensors[operator.outputs[0]])]
    if any(number != fb.schema.TensorType.INT8 for number in types):
        named = ", ".join(fb.TENSOR_TYPE_NAMES[number] for number in types)
        raise NotTernary(f"input, weights, output are {named}, not INT8")
    if not fb.is_constant(model, operator.inputs[1]):
        raise NotTernary("weights are computed by the graph")
    if np.any(fb.zero_points_of(kernel)):
        raise NotTernary("weights have a zero point")


def _check_geometry(operator: Any, name: str, source: tuple[int, ...], kernel: tuple[int, ...]) -> None:
    options = operator.builtinOptions
    activation = _ACTIVATION_NAMES.get(options.fusedActivationFunction, str(options.fusedActivationFunction))
    if activation not in _ACTIVATIONS:
        raise NotTernary(f"fused activation {activation}")
    if name == "CONV_2D" and source[-1] != kernel[3]:
        raise NotTernary(f"grouped convolution ({source[-1] // kernel[3]} groups)")
    if name == "DEPTHWISE_CONV_2D" and kernel[0] != 1:
        raise NotTernary(f"depthwise kernel of shape {kernel}")
    if name == "FULLY_CONNECTED" and options.weightsFormat != 0:
        raise NotTernary("shuffled weights")


def _bias(model: Any, operator: Any, channels: int) -> np.ndarray:
    """int32 [M]; zeros where the operator has none."""
    if len(operator.inputs) < 3 or operator.inputs[2] < 0:
        return np.zeros(channels, np.int32)
    index = int(operator.inputs[2])
    if model.subgraphs[0].tensors[index].type != fb.schema.TensorType.INT32 or not fb.is_constant(model, index):
        raise NotTernary("bias is not a constant int32 vector")
    return fb.constant(model, index).reshape(-1)


def _check_bias(bias: np.ndarray, length: int) -> None:
    """The bound of docs/packing.md: a sum of `length` products and its bias has to fit int32."""
    largest = int(np.abs(bias.astype(np.int64)).max(initial=0))
    if largest > bias_room(length):
        raise NotTernary(f"a bias of {largest}, int32 has room for {bias_room(length)} beside {length} products")


def _levels(columns: np.ndarray) -> int:
    return max(len(np.unique(column)) for column in columns.T)


def _scales(graph: Any, operator: Any, channels: int) -> np.ndarray:
    """float32 [2 + M]: input, output, weights of each channel."""
    source, kernel = (fb.scales_of(graph.tensors[operator.inputs[i]]) for i in (0, 1))
    output = fb.scales_of(graph.tensors[operator.outputs[0]])
    if len(source) != 1 or len(output) != 1 or len(kernel) not in (1, channels):
        raise NotTernary(f"scales of input, weights, output: {len(source)}, {len(kernel)}, {len(output)} values")
    scales = np.concatenate([source, output, np.broadcast_to(kernel, channels)]).astype(np.float32)
    if not np.all(np.isfinite(scales) & (scales > 0)):
        raise NotTernary("a scale is not finite and positive")
    return scales


def _params(graph: Any, operator: Any, name: str, branches: int) -> Params:
    source, output = (graph.tensors[index] for index in (operator.inputs[0], operator.outputs[0]))
    kernel = fb.shape_of(graph.tensors[operator.inputs[1]])
    geometry = _dense_geometry if name == "FULLY_CONNECTED" else _convolution_geometry
    return Params(
        format_version=FORMAT_VERSION,
        branches=branches,
        output_channels=kernel[KERNELS[name].axis],
        activation=operator.builtinOptions.fusedActivationFunction,
        input_zero_point=int(fb.zero_points_of(source)[0]),
        output_zero_point=int(fb.zero_points_of(output)[0]),
        **geometry(operator.builtinOptions, name, kernel, fb.shape_of(source)[-1]),
    )


def _dense_geometry(options: Any, name: str, kernel: tuple[int, ...], inputs: int) -> dict[str, int]:
    one = ("kernel_height", "kernel_width", "stride_height", "stride_width", "dilation_height", "dilation_width")
    valid = int(fb.schema.Padding.VALID)
    own = {"input_channels": kernel[1], "depth_multiplier": 0, "keep_num_dims": int(options.keepNumDims)}
    return {**dict.fromkeys(one, 1), "padding": valid, **own}


def _convolution_geometry(options: Any, name: str, kernel: tuple[int, ...], inputs: int) -> dict[str, int]:
    return {
        "kernel_height": kernel[1],
        "kernel_width": kernel[2],
        "input_channels": inputs,
        "stride_height": options.strideH,
        "stride_width": options.strideW,
        "dilation_height": options.dilationHFactor,
        "dilation_width": options.dilationWFactor,
        "padding": options.padding,
        "depth_multiplier": 0 if name == "CONV_2D" else kernel[KERNELS[name].axis] // inputs,
        "keep_num_dims": 0,
    }
