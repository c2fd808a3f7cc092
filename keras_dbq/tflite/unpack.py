"""The way back: a packed `.tflite` to the int8 file of builtin operators that computes the same integers."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from keras_dbq._files import check_path, write_file
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite import metadata, packed_checks
from keras_dbq.tflite.levels import decode_trits
from keras_dbq.tflite.operators import BUILTIN_OPS, KERNELS, int8_version
from keras_dbq.tflite.params import Params
from keras_dbq.tflite.slim import drop_unused, share_buffers
from keras_dbq.tflite.thresholds import table_of


def unpack_tflite(source: bytes | str | os.PathLike, path: str | os.PathLike | None = None) -> bytes:
    """Replaces every Dbq operator by CONV_2D, DEPTHWISE_CONV_2D or FULLY_CONNECTED with the int8 weights it stands for.

    Thresholds (version 2) become a table of 256 codes behind it: CAST, CAST, GATHER.

    Args:
      source: a packed file's bytes or path; a file without Dbq operators comes back unchanged in meaning.
      path: where to write the int8 file; None writes nothing.

    Returns:
      The int8 file. Weights, scales, biases and zero points are those of the file that was packed; names of constants
      and metadata of other tools are not, the packer drops them.

    Raises:
      ValueError: not a TFLite file, constants that docs/packing.md forbids, thresholds that are those of no table, or a
        path in no folder.
    """
    if path is not None:
        check_path(path)
    model = fb.load_model(fb.read_bytes(source))
    operators: list[Any] = []
    for operator in model.subgraphs[0].operators:
        name = fb.op_name(model, operator)
        operators += _unpacked(model, operator, BUILTIN_OPS[name]) if name in BUILTIN_OPS else [operator]
    model.subgraphs[0].operators = operators
    metadata.forget(model)
    drop_unused(model)
    share_buffers(model)
    data = fb.save_model(model)
    if path is not None:
        write_file(path, data)
    return data


def integer_weights(codes: np.ndarray, branch_scales: np.ndarray, params: Params, name: str) -> np.ndarray:
    """int8 weights in the builtin operator's layout, of the tensors of one packed layer.

    Args:
      codes: uint8 [B * ceil(W / 5)]. branch_scales: uint8 [B, M]. name: "CONV_2D", ...
    """
    shape = _weight_shape(params, name)
    trits = decode_trits(codes, params.branches, int(np.prod(shape))).reshape(params.branches, *shape)
    along = [1] * len(shape)
    along[KERNELS[name].axis] = -1
    scales = branch_scales.astype(np.int64).reshape(params.branches, *along)
    return (trits.astype(np.int64) * scales).sum(0).astype(np.int8)


def _weight_shape(params: Params, name: str) -> tuple[int, ...]:
    kernel = (params.kernel_height, params.kernel_width)
    return {
        "CONV_2D": (params.output_channels, *kernel, params.input_channels),
        "DEPTHWISE_CONV_2D": (1, *kernel, params.output_channels),
        "FULLY_CONNECTED": (params.output_channels, params.input_channels),
    }[name]


def _unpacked(model: Any, operator: Any, name: str) -> list[Any]:
    """The operator rewritten, with the table behind it where it had thresholds."""
    codes, branch_scales, scales, bias, raw, *more = (fb.constant(model, int(i)) for i in operator.inputs[1:])
    params, axis = Params.from_array(raw), KERNELS[name].axis
    packed_checks.check(branch_scales, scales, bias, params, name, *more)
    weights = integer_weights(codes, branch_scales, params, name)
    output = fb.text(model.subgraphs[0].tensors[operator.outputs[0]].name)
    tables: list[Any] = []
    if more:
        table = table_of(more[0], params.lowest_code, scales, params)
        tables = _table_behind(model, operator, table, scales[1], params.output_zero_point)
    weights_index = fb.add_tensor(model, weights, f"{output}/weights", fb.quantization(scales[2:], 0, axis))
    bias_index = fb.add_tensor(model, bias, f"{output}/bias", fb.quantization(scales[0] * scales[2:], 0, 0))
    operator.inputs = np.array([operator.inputs[0], weights_index, bias_index], np.int32)
    operator.opcodeIndex = fb.operator_code(model, name, int8_version(name))
    options = {"CONV_2D": _conv_options, "DEPTHWISE_CONV_2D": _depthwise_options, "FULLY_CONNECTED": _dense_options}
    operator.builtinOptionsType, operator.builtinOptions = options[name](params)
    return [operator, *tables]


def _table_behind(model: Any, operator: Any, codes: np.ndarray, scale: np.floating, zero_point: int) -> list[Any]:
    """CAST, CAST, GATHER that write what the operator wrote; it gets a tensor of its own, on its grid."""
    target = int(operator.outputs[0])
    tensor = model.subgraphs[0].tensors[target]
    before = fb.add_activation(model, target, f"{fb.text(tensor.name)}/before")
    model.subgraphs[0].tensors[before].quantization = fb.quantization(scale, zero_point)
    operator.outputs = np.array([before], np.int32)
    return fb.look_up(model, before, codes, target, tensor.quantization)


def _conv_options(params: Params) -> tuple[int, Any]:
    options = fb.schema.Conv2DOptionsT()
    _set_geometry(options, params)
    return fb.schema.BuiltinOptions.Conv2DOptions, options


def _depthwise_options(params: Params) -> tuple[int, Any]:
    options = fb.schema.DepthwiseConv2DOptionsT()
    _set_geometry(options, params)
    options.depthMultiplier = params.depth_multiplier
    return fb.schema.BuiltinOptions.DepthwiseConv2DOptions, options


def _dense_options(params: Params) -> tuple[int, Any]:
    options = fb.schema.FullyConnectedOptionsT()
    options.fusedActivationFunction, options.keepNumDims = params.activation, bool(params.keep_num_dims)
    return fb.schema.BuiltinOptions.FullyConnectedOptions, options


def _set_geometry(options: Any, params: Params) -> None:
    options.strideH, options.strideW = params.stride_height, params.stride_width
    options.dilationHFactor, options.dilationWFactor = params.dilation_height, params.dilation_width
    options.padding, options.fusedActivationFunction = params.padding, params.activation
