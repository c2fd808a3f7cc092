"""The way back: a packed `.tflite` to the int8 file of builtin operators that computes the same integers."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from keras_dbq.export.integerize import OP_VERSIONS
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.levels import decode_trits
from keras_dbq.tflite.report import BUILTIN_OPS
from keras_dbq.tflite.slim import drop_unused, share_buffers


def unpack_tflite(source: bytes | str | os.PathLike, path: str | os.PathLike | None = None) -> bytes:
    """Replaces every Dbq operator by CONV_2D, DEPTHWISE_CONV_2D or FULLY_CONNECTED with the int8 weights it stands for.

    Args:
      source: a packed file's bytes or path; a file without Dbq operators comes back unchanged in meaning.
      path: where to write the int8 file; None writes nothing.

    Returns:
      The int8 file. Weights, scales, biases and zero points are those of the file that was packed; names of constants
      and metadata of other tools are not, the packer drops them.

    Raises:
      ValueError: not a TFLite file, or codes that are damaged.
    """
    model = fb.load_model(fb.read_bytes(source))
    for operator in model.subgraphs[0].operators:
        name = fb.op_name(model, operator)
        if name in BUILTIN_OPS:
            _rewrite(model, operator, BUILTIN_OPS[name])
    model.metadata = [entry for entry in model.metadata or [] if fb.text(entry.name) != fb.METADATA_NAME]
    drop_unused(model)
    share_buffers(model)
    data = fb.save_model(model)
    if path is not None:
        fb.write_file(path, data)
    return data


def integer_weights(codes: np.ndarray, branch_scales: np.ndarray, params: np.ndarray, name: str) -> np.ndarray:
    """int8 weights in the builtin operator's layout, of the tensors of one packed layer.

    Args:
      codes: uint8 [B * ceil(W / 5)]. branch_scales: uint8 [B, M]. params: int32 [16]. name: "CONV_2D", ...
    """
    branches, height, width, inputs, channels = (int(value) for value in params[1:6])
    shapes = {
        "CONV_2D": (channels, height, width, inputs),
        "DEPTHWISE_CONV_2D": (1, height, width, channels),
        "FULLY_CONNECTED": (channels, inputs),
    }
    shape = shapes[name]
    trits = decode_trits(codes, branches, int(np.prod(shape))).reshape(branches, *shape)
    axis = {"DEPTHWISE_CONV_2D": 3}.get(name, 0)
    along = [branches] + [channels if i == axis else 1 for i in range(len(shape))]
    return (trits.astype(np.int64) * branch_scales.astype(np.int64).reshape(along)).sum(0).astype(np.int8)


def _rewrite(model: Any, operator: Any, name: str) -> None:
    graph = model.subgraphs[0]
    codes, branch_scales, scales, bias, params = (fb.constant(model, int(index)) for index in operator.inputs[1:6])
    weights = integer_weights(codes, branch_scales, params, name)
    output = fb.text(graph.tensors[operator.outputs[0]].name)
    axis = {"DEPTHWISE_CONV_2D": 3}.get(name, 0)
    weights_index = fb.add_tensor(model, weights, f"{output}/weights", fb.quantization(scales[2:], 0, axis))
    bias_index = fb.add_tensor(model, bias, f"{output}/bias", fb.quantization(scales[0] * scales[2:], 0, 0))
    operator.inputs = np.array([operator.inputs[0], weights_index, bias_index], np.int32)
    operator.opcodeIndex = fb.operator_code(model, name, OP_VERSIONS[name])
    options = {"CONV_2D": _conv_options, "DEPTHWISE_CONV_2D": _depthwise_options, "FULLY_CONNECTED": _dense_options}
    operator.builtinOptionsType, operator.builtinOptions = options[name]([int(value) for value in params])


def _conv_options(params: list[int]) -> tuple[int, Any]:
    options = fb.schema.Conv2DOptionsT()
    _set_geometry(options, params)
    return fb.schema.BuiltinOptions.Conv2DOptions, options


def _depthwise_options(params: list[int]) -> tuple[int, Any]:
    options = fb.schema.DepthwiseConv2DOptionsT()
    _set_geometry(options, params)
    options.depthMultiplier = params[12]
    return fb.schema.BuiltinOptions.DepthwiseConv2DOptions, options


def _dense_options(params: list[int]) -> tuple[int, Any]:
    options = fb.schema.FullyConnectedOptionsT()
    options.fusedActivationFunction, options.keepNumDims = params[11], bool(params[15])
    return fb.schema.BuiltinOptions.FullyConnectedOptions, options


def _set_geometry(options: Any, params: list[int]) -> None:
    options.strideH, options.strideW = params[6:8]
    options.dilationHFactor, options.dilationWFactor = params[8:10]
    options.padding, options.fusedActivationFunction = params[10:12]
