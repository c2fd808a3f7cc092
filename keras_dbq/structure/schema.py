"""The tables of a `.tflite` file, field by field. source: TensorFlow Lite's schema, version 3c."""

from __future__ import annotations

from typing import NamedTuple

try:
    from ai_edge_litert import schema_py_generated as schema
except ImportError:  # the same generated code, for machines that only have TensorFlow
    from tensorflow.lite.python import schema_py_generated as schema  # type: ignore[no-redef]


class Field(NamedTuple):
    """One field of a flatbuffer table."""

    slot: int  # its place in the vtable
    name: str
    kind: str  # a struct character, "text", "place" (bytes, read as a place), "[i]", "table", "[table]" or "union"
    inner: str = ""  # the table of "table" and "[table]"
    default: object = None


def _fields(text: str) -> tuple[Field, ...]:
    """From lines of "slot name kind [default or inner table]"."""
    found = []
    for line in filter(None, (part.strip() for part in text.split(","))):
        slot, name, kind, *more = line.split()
        if kind in ("table", "[table]"):
            found.append(Field(int(slot), name, kind, more[0]))
        else:
            default = (int(more[0]) if more else 0) if len(kind) == 1 else None
            found.append(Field(int(slot), name, kind, default=default))
    return tuple(found)


_CONV = "0 padding b, 1 stride_w i, 2 stride_h i"
_TEXTS = {
    "Model": "0 version I, 1 operator_codes [table] OperatorCode, 2 subgraphs [table] SubGraph, 3 description text, "
    "4 buffers [table] Buffer, 5 metadata_buffer [i], 6 metadata [table] Metadata, "
    "7 signatures [table] SignatureDef, 8 external_groups [table] Any, 9 external_buffers [table] Any",
    "OperatorCode": "0 deprecated_code b, 1 custom_code text, 2 version i 1, 3 code i",
    "SubGraph": "0 tensors [table] Tensor, 1 inputs [i], 2 outputs [i], 3 operators [table] Operator, 4 name text, "
    "5 debug i -1",
    "Tensor": "0 shape [i], 1 type b, 2 buffer I, 3 name text, 4 quantization table Quantization, 5 is_variable B, "
    "6 sparsity table Any, 7 signature [i], 8 has_rank B, 9 variants [table] VariantSubType, 10 external_buffer I",
    "VariantSubType": "0 shape [i], 1 type b, 2 has_rank B",
    "Quantization": "0 min [f], 1 max [f], 2 scale [f], 3 zero_point [q], 4 details_type B, 5 details union, 6 axis i",
    "Operator": "0 code_index I, 1 inputs [i], 2 outputs [i], 3 options_type B, 4 options union, "
    "5 custom_options place, 6 custom_format b, 7 mutating [B], 8 intermediates [i], 9 large_offset Q, "
    "10 large_size Q, 11 options_2_type B, 12 options_2 union, 13 debug i -1",
    "Buffer": "0 data place, 1 offset Q, 2 size Q",
    "Metadata": "0 name text, 1 buffer I",
    "SignatureDef": "0 inputs [table] TensorMap, 1 outputs [table] TensorMap, 2 key text, 4 subgraph I",
    "TensorMap": "0 name text, 1 tensor I",
    "Any": "",
    "Blockwise": "0 scales i, 1 zero_points i, 2 block_size i",
    "Conv2DOptions": f"{_CONV}, 3 activation b, 4 dilation_w i 1, 5 dilation_h i 1",
    "DepthwiseConv2DOptions": f"{_CONV}, 3 multiplier i, 4 activation b, 5 dilation_w i 1, 6 dilation_h i 1",
    "TransposeConvOptions": f"{_CONV}, 3 activation b",
    "Pool2DOptions": f"{_CONV}, 3 filter_w i, 4 filter_h i, 5 activation b",
    "FullyConnectedOptions": "0 activation b, 1 weights_format b, 2 keep_num_dims B",
    "SoftmaxOptions": "0 beta f",
    "ConcatenationOptions": "0 axis i, 1 activation b",
    "AddOptions": "0 activation b",
    "SubOptions": "0 activation b",
    "MulOptions": "0 activation b",
    "DivOptions": "0 activation b",
    "L2NormOptions": "0 activation b",
    "ResizeBilinearOptions": "2 align_corners B, 3 half_pixel B",
    "ResizeNearestNeighborOptions": "0 align_corners B, 1 half_pixel B",
    "ReshapeOptions": "0 shape [i]",
    "SqueezeOptions": "0 axes [i]",
    "SpaceToDepthOptions": "0 block i",
    "DepthToSpaceOptions": "0 block i",
    "GatherOptions": "0 axis i, 1 batch_axes i",
    "ReducerOptions": "0 keep B",
    "StridedSliceOptions": "0 begin_mask i, 1 end_mask i, 2 ellipsis_mask i, 3 new_axis_mask i, 4 shrink_mask i, "
    "5 offset B",
    "SplitOptions": "0 parts i",
    "SplitVOptions": "0 parts i",
    "PackOptions": "0 parts i, 1 axis i",
    "UnpackOptions": "0 parts i, 1 axis i",
    "LeakyReluOptions": "0 alpha f",
    "MirrorPadOptions": "0 mode b",
    "BatchMatMulOptions": "0 adjoint_x B, 1 adjoint_y B",
    "ConcatEmbeddingsOptions": "0 channels i, 1 columns [i], 2 dimensions [i]",
    "BucketizeOptions": "0 boundaries [f]",
    "VarHandleOptions": "0 container text, 1 shared_name text",
    "CallOptions": "0 subgraph I",
    "CallOnceOptions": "0 subgraph i",
    "IfOptions": "0 then i, 1 other i",
    "WhileOptions": "0 condition i, 1 body i",
}
TABLES = {name: _fields(text) for name, text in _TEXTS.items()}


def _numbers(enumeration: type) -> dict[int, str]:
    return {v: k for k, v in vars(enumeration).items() if isinstance(v, int) and not k.startswith("_")}


OPERATORS = _numbers(schema.BuiltinOperator)
OPTIONS = _numbers(schema.BuiltinOptions)
TYPES = _numbers(schema.TensorType)
CUSTOM = int(schema.BuiltinOperator.CUSTOM)
# Bits of one element; types without a fixed size (STRING, RESOURCE, VARIANT) are absent.
BITS = {
    **dict.fromkeys(("INT2",), 2),
    **dict.fromkeys(("INT4", "UINT4"), 4),
    **dict.fromkeys(("INT8", "UINT8", "BOOL", "FLOAT8_E4M3FN", "FLOAT8_E5M2"), 8),
    **dict.fromkeys(("INT16", "UINT16", "FLOAT16", "BFLOAT16"), 16),
    **dict.fromkeys(("INT32", "UINT32", "FLOAT32"), 32),
    **dict.fromkeys(("INT64", "UINT64", "FLOAT64", "COMPLEX64"), 64),
    "COMPLEX128": 128,
}
# Operators whose options are called after something else; the others are called after the operator.
_SHARED_OPTIONS = {
    "Pool2DOptions": "AVERAGE_POOL_2D MAX_POOL_2D L2_POOL_2D",
    "ReducerOptions": "MEAN SUM REDUCE_PROD REDUCE_MAX REDUCE_MIN REDUCE_ANY REDUCE_ALL",
    "MaximumMinimumOptions": "MAXIMUM MINIMUM",
    "L2NormOptions": "L2_NORMALIZATION",
    "SequenceRNNOptions": "UNIDIRECTIONAL_SEQUENCE_RNN",
    "RandomOptions": "RANDOM_UNIFORM RANDOM_STANDARD_NORMAL MULTINOMIAL",
    "Conv3DOptions": "CONV_3D CONV_3D_TRANSPOSE",
}


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


_BY_PLAIN_NAME = {_plain(name.removesuffix("Options")): name for name in OPTIONS.values()}
OPTIONS_OF = {name: _BY_PLAIN_NAME[_plain(name)] for name in OPERATORS.values() if _plain(name) in _BY_PLAIN_NAME} | {
    operator: options for options, operators in _SHARED_OPTIONS.items() for operator in operators.split()
}
