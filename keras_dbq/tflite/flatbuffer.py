"""Reading, editing and writing `.tflite` files through the object API of the schema that ships with LiteRT.

Nothing here knows about ternary branches: these are the few verbs the converter, the packer and the report share.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np

from keras_dbq._files import write_file as write_file  # this module's own in version 0.1
from keras_dbq.structure import check_file

try:
    from ai_edge_litert import schema_py_generated as schema
except ImportError:  # the same generated module, as TensorFlow ships it
    from tensorflow.lite.python import schema_py_generated as schema  # type: ignore[no-redef]

FILE_IDENTIFIER = b"TFL3"
METADATA_NAME = "keras_dbq"

BUILTIN_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
TENSOR_TYPE_NAMES = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}

NUMPY_TYPES: dict[int, np.dtype] = {
    schema.TensorType.FLOAT32: np.dtype("<f4"),
    schema.TensorType.INT32: np.dtype("<i4"),
    schema.TensorType.UINT8: np.dtype("u1"),
    schema.TensorType.INT64: np.dtype("<i8"),
    schema.TensorType.INT8: np.dtype("i1"),
    schema.TensorType.INT16: np.dtype("<i2"),
    schema.TensorType.BOOL: np.dtype("?"),
}
TENSOR_TYPES = {dtype: number for number, dtype in NUMPY_TYPES.items()}


def read_bytes(source: bytes | bytearray | str | os.PathLike) -> bytes:
    """The bytes of a `.tflite` given as bytes or as a path, looked at from end to end.

    Raises:
      ValueError: not a TFLite flatbuffer, or a damaged one.
    """
    data = bytes(source) if isinstance(source, bytes | bytearray) else Path(source).read_bytes()
    if data[4:8] != FILE_IDENTIFIER:
        where = "" if isinstance(source, bytes | bytearray) else f" in {str(source)!r}"
        raise ValueError(f"source: expected a TFLite file (identifier 'TFL3' at byte 4), got {data[4:8]!r}{where}")
    try:
        check_file(data)
    except ValueError as error:
        raise ValueError(f"source: expected a sound .tflite file, got: {error}") from None
    return data


def load_model(data: bytes) -> Any:
    """bytes -> ModelT of exactly one subgraph.

    Raises:
      ValueError: damaged file, several subgraphs, or weights stored outside the flatbuffer.
    """
    model = parse(data)
    if model.subgraphs is None or len(model.subgraphs) != 1:
        count = 0 if model.subgraphs is None else len(model.subgraphs)
        raise ValueError(f"source: expected a model of one subgraph, got {count}")
    if any(buffer.offset > 1 for buffer in model.buffers):
        raise ValueError("source: expected weights inside the flatbuffer, got buffers stored behind it (over 2 GiB)")
    return model


def parse(data: bytes) -> Any:
    """bytes -> ModelT, whatever it holds.

    Raises:
      ValueError: damaged file.
    """
    try:
        return schema.ModelT.InitFromPackedBuf(data, 0)
    except Exception as error:  # the generated reader raises struct.error, IndexError, TypeError, ...
        raise ValueError(
            f"source: expected a readable TFLite flatbuffer, got {type(error).__name__}: {error}"
        ) from None


class _SharingBuilder(flatbuffers.Builder):
    """Writes equal vectors and strings once; tables that name them share the offset, which flatbuffers allows."""

    def __init__(self, size: int):
        super().__init__(size)
        self._known: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802 (the base class's name)
        key = (x.dtype.str, x.tobytes())
        if key not in self._known:
            self._known[key] = super().CreateNumpyVector(x)
        return self._known[key]


def save_model(model: Any, share: bool = False) -> bytes:
    """ModelT -> bytes, with the file identifier; `share` writes equal vectors (shapes, zero points) once."""
    # Room for all of it: a builder doubles its buffer, and copies it, each time that it is full.
    size = sum(len(buffer.data) for buffer in model.buffers or [] if buffer.data is not None)
    builder = (_SharingBuilder if share else flatbuffers.Builder)(size + size // 8 + (1 << 16))
    builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())


def text(value: str | bytes | None) -> str:
    """A flatbuffer string as str; absent is ''."""
    return value.decode() if isinstance(value, bytes) else value or ""


def op_name(model: Any, operator: Any) -> str:
    """'CONV_2D', ... for a builtin; the custom code ('DbqConv2D') for a custom operator."""
    code = model.operatorCodes[operator.opcodeIndex]
    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
    return text(code.customCode) if builtin == schema.BuiltinOperator.CUSTOM else BUILTIN_NAMES[builtin]


def operator_code(model: Any, name: str, version: int = 1) -> int:
    """Index of the operator code (name, version), added to the model when it is not there yet."""
    builtin = getattr(schema.BuiltinOperator, name, schema.BuiltinOperator.CUSTOM)
    custom = name if builtin == schema.BuiltinOperator.CUSTOM else None
    for index, code in enumerate(model.operatorCodes):
        same = max(code.builtinCode, code.deprecatedBuiltinCode) == builtin and text(code.customCode) == (custom or "")
        if same and code.version == version:
            return index
    code = schema.OperatorCodeT()
    code.deprecatedBuiltinCode, code.builtinCode = min(builtin, 127), builtin
    code.customCode, code.version = custom, version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def new_operator(model: Any, name: str, version: int, inputs: list[int], outputs: list[int]) -> Any:
    """A builtin operator whose options are the schema's defaults; it is in no list of operators yet."""
    operator = schema.OperatorT()
    operator.opcodeIndex = operator_code(model, name, version)
    operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
    kind = {"MAXIMUM": "MaximumMinimum"}.get(name, name.capitalize()) + "Options"
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
    operator.builtinOptions = getattr(schema, kind + "T")()
    return operator


def buffer_bytes(model: Any, tensor: Any) -> int:
    """Size of the constant data of a tensor; 0 for an activation."""
    data = model.buffers[tensor.buffer].data
    return 0 if data is None else len(data)


def is_constant(model: Any, index: int) -> bool:
    """True for a tensor with data in the file (index -1, an absent input, is none)."""
    if index < 0:
        return False
    tensor = model.subgraphs[0].tensors[index]
    return buffer_bytes(model, tensor) > 0


def constant(model: Any, index: int) -> np.ndarray:
    """The values of a constant tensor, in its shape and dtype (a copy).

    Raises:
      ValueError: the tensor has no data, is packed below 8 bits, or its bytes do not fill its shape.
    """
    tensor = model.subgraphs[0].tensors[index]
    name = text(tensor.name)
    if tensor.type not in NUMPY_TYPES:
        raise ValueError(
            f"tensor {name!r}: expected a plain type, got {TENSOR_TYPE_NAMES.get(tensor.type, tensor.type)}"
        )
    data, dtype = model.buffers[tensor.buffer].data, NUMPY_TYPES[tensor.type]
    shape = shape_of(tensor)
    wanted = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if data is None or len(data) != wanted:
        raise ValueError(
            f"tensor {name!r}: expected {wanted} bytes of data for {shape}, got {0 if data is None else len(data)}"
        )
    return np.frombuffer(np.asarray(data, np.uint8).tobytes(), dtype).reshape(shape)


def dequantized(model: Any, index: int) -> np.ndarray:
    """A constant as float32: scale * (value - zero_point), or the values where it is not quantized.

    Raises:
      ValueError: see `constant`.
    """
    tensor, values = model.subgraphs[0].tensors[index], constant(model, index).astype(np.float32)
    scale, zero_point = scales_of(tensor), zero_points_of(tensor).astype(np.float32)
    if not scale.size:
        return values
    along = [1] * values.ndim
    if scale.size > 1:
        along[tensor.quantization.quantizedDimension] = -1
    return (values - zero_point.reshape(along)) * scale.reshape(along)


def shape_of(tensor: Any) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(int(size) for size in tensor.shape)


def add_activation(model: Any, like: int, name: str) -> int:
    """Appends an activation of the same shape and type as another, without a grid, and returns its index."""
    tensors, new = model.subgraphs[0].tensors, schema.TensorT()
    old = tensors[like]
    new.shape, new.shapeSignature, new.type = old.shape, old.shapeSignature, old.type
    new.name, new.hasRank = name, old.hasRank
    tensors.append(new)
    return len(tensors) - 1


def look_up(model: Any, source: int, codes: np.ndarray, target: int, quantization: Any) -> list[Any]:
    """CAST, CAST, GATHER that make codes of an int8 tensor others by a table; they are in no list of operators yet.

    Args:
      source, target: tensors of one shape.  codes: int8 [256], the code of code c at c modulo 256.
      quantization: of the table.
    """
    tensors = model.subgraphs[0].tensors
    name = text(tensors[target].name)
    unsigned, index = (add_activation(model, target, f"{name}/{kind}") for kind in ("unsigned", "index"))
    tensors[unsigned].type, tensors[index].type = schema.TensorType.UINT8, schema.TensorType.INT32
    table = add_tensor(model, codes, f"{name}/table", quantization)
    return [
        new_operator(model, "CAST", 1, [source], [unsigned]),
        new_operator(model, "CAST", 1, [unsigned], [index]),
        new_operator(model, "GATHER", 2, [table, index], [target]),
    ]


def add_buffer(model: Any, values: np.ndarray | bytes) -> int:
    """Appends a buffer and returns its index."""
    buffer = schema.BufferT()
    raw = values if isinstance(values, bytes) else np.ascontiguousarray(values).tobytes()
    buffer.data = np.frombuffer(raw, np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def add_tensor(model: Any, values: np.ndarray, name: str = "", quantization: Any = None) -> int:
    """Appends a constant tensor and returns its index."""
    tensor = schema.TensorT()
    tensor.shape, tensor.type = np.array(values.shape, np.int32), TENSOR_TYPES[values.dtype.newbyteorder("<")]
    tensor.buffer, tensor.name, tensor.quantization = add_buffer(model, values), name, quantization
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


def quantization(scale: np.ndarray | np.floating, zero_point: np.ndarray | int = 0, axis: int = 0) -> Any:
    """QuantizationParametersT of float32 scales and int64 zero points (one zero point is repeated)."""
    parameters = schema.QuantizationParametersT()
    parameters.scale = np.atleast_1d(np.asarray(scale, np.float32))
    parameters.zeroPoint = np.array(np.broadcast_to(np.asarray(zero_point, np.int64), parameters.scale.shape))
    parameters.quantizedDimension = axis
    return parameters


def scales_of(tensor: Any) -> np.ndarray:
    """float32 scales of a tensor; empty when it is not quantized."""
    parameters = tensor.quantization
    if parameters is None or parameters.scale is None:
        return np.zeros(0, np.float32)
    return np.asarray(parameters.scale, np.float32)


def zero_points_of(tensor: Any) -> np.ndarray:
    """int64 zero points of a tensor; empty when it has none."""
    parameters = tensor.quantization
    if parameters is None or parameters.zeroPoint is None:
        return np.zeros(0, np.int64)
    return np.asarray(parameters.zeroPoint, np.int64)


def set_metadata(model: Any, name: str, data: bytes) -> None:
    """Adds a metadata entry, or replaces the one of that name."""
    entries = [entry for entry in model.metadata or [] if text(entry.name) != name]
    entry = schema.MetadataT()
    entry.name, entry.buffer = name, add_buffer(model, data)
    model.metadata = [*entries, entry]


def get_metadata(model: Any, name: str) -> bytes | None:
    """The bytes of a metadata entry, or None."""
    for entry in model.metadata or []:
        if text(entry.name) == name:
            data = model.buffers[entry.buffer].data
            return b"" if data is None else np.asarray(data, np.uint8).tobytes()
    return None


def used_tensors(graph: Any) -> set[int]:
    """Indices of tensors that an operator or the graph's inputs and outputs name."""
    used = {int(i) for i in [*graph.inputs, *graph.outputs]}
    for operator in graph.operators:
        for indices in (operator.inputs, operator.outputs, operator.intermediates):
            used.update(int(i) for i in ([] if indices is None else indices) if i >= 0)
    return used


def index_fields(model: Any) -> Iterator[tuple[Any, str]]:
    """(holder, attribute) of every list of tensor indices of subgraph 0; -1 in a list means absent."""
    graph = model.subgraphs[0]
    yield graph, "inputs"
    yield graph, "outputs"
    for operator in graph.operators:
        for attribute in ("inputs", "outputs", "intermediates"):
            if getattr(operator, attribute) is not None:
                yield operator, attribute
