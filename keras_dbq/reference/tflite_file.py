"""Reading of a `.tflite` file into plain Python objects: tensors, quantization, operators and their options."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_dbq.structure.reader import read

try:
    from ai_edge_litert import schema_py_generated as schema
except ImportError:  # the same generated code, for machines that only have TensorFlow
    from tensorflow.lite.python import schema_py_generated as schema

Array = np.ndarray

_DTYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.UINT8: np.uint8,
    schema.TensorType.INT64: np.int64,
    schema.TensorType.BOOL: np.bool_,
    schema.TensorType.INT16: np.int16,
    schema.TensorType.INT8: np.int8,
}
_BUILTIN_NAMES = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_") and name != "CUSTOM"
}


@dataclass(frozen=True)
class Quantization:
    """real = (code - zero_point) * scale; one value, or one per channel along `axis`."""

    scale: Array  # float32 [1] or [channels]
    zero_point: Array  # int64, as long as scale
    axis: int


@dataclass(frozen=True)
class Tensor:
    """One tensor of the file; `data` is None for activations."""

    index: int
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    quantization: Quantization | None
    data: Array | None

    @property
    def scale(self) -> np.float32:
        """The scale of a per-tensor quantized tensor (float32)."""
        return self._single().scale[0]

    @property
    def zero_point(self) -> int:
        """The zero point of a per-tensor quantized tensor."""
        return int(self._single().zero_point[0])

    def _single(self) -> Quantization:
        if self.quantization is None or self.quantization.scale.size != 1:
            found = "none" if self.quantization is None else f"{self.quantization.scale.size} scales"
            raise ValueError(f"tensor {self.name!r}: expected one scale and zero point, got {found}")
        return self.quantization


@dataclass(frozen=True)
class Operator:
    """One operator; `name` is the schema's (CONV_2D) or the custom code, `options` the schema's object or None."""

    index: int
    name: str
    version: int
    custom: bool
    inputs: tuple[int, ...]  # tensor indices, -1 for an absent optional input
    outputs: tuple[int, ...]
    options: Any

    def option(self, name: str, default: Any = 0) -> Any:
        """One field of the builtin options; the schema's default where the file leaves the options out."""
        return default if self.options is None else getattr(self.options, name)


@dataclass(frozen=True)
class TFLiteModel:
    """The first subgraph of a file, the names that its signature gives, and the file's metadata (name to bytes)."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    metadata: dict[str, bytes]
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()


def read_model(source: str | os.PathLike | bytes | bytearray | memoryview) -> TFLiteModel:
    """Reads a file by path, or its bytes.

    Raises:
      ValueError: when the bytes are no readable TFLite flatbuffer.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        data, name = bytes(source), "bytes"
    else:
        name = os.fspath(source)
        with open(source, "rb") as file:
            data = file.read()
    if data[4:8] != b"TFL3":
        raise ValueError(f"{name}: expected a TFLite file (identifier TFL3 at byte 4), got {data[4:8]!r}")
    try:
        read(data)
    except ValueError as error:
        raise ValueError(f"{name}: expected a whole TFLite file, got a damaged one ({error})") from None
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))
        return _convert(model, data)
    except ValueError:
        raise
    except Exception as error:  # flatbuffers raise whatever a wild offset leads to
        raise ValueError(
            f"{name}: expected a whole TFLite file, got a damaged one ({error!r}); export it again"
        ) from error


def _convert(model: Any, data: bytes) -> TFLiteModel:
    graph = model.subgraphs[0]
    tensors = tuple(_tensor(i, t, model, data) for i, t in enumerate(graph.tensors))
    operators = tuple(_operator(i, o, model) for i, o in enumerate(graph.operators))
    for operator in operators:
        wrong = [i for i in (*operator.inputs, *operator.outputs) if not -1 <= i < len(tensors)]
        if wrong:
            raise ValueError(
                f"operator {operator.index} ({operator.name}): expected tensor indices below {len(tensors)}, "
                f"got {wrong[0]}"
            )
    metadata = {_text(m.name): _buffer(model.buffers[m.buffer], data) for m in model.metadata or []}
    inputs, outputs = _indices(graph.inputs), _indices(graph.outputs)
    signature = next((s for s in model.signatureDefs or [] if s.subgraphIndex == 0), None)
    input_names = _end_names(inputs, getattr(signature, "inputs", None), tensors)
    output_names = _end_names(outputs, getattr(signature, "outputs", None), tensors)
    return TFLiteModel(tensors, operators, inputs, outputs, metadata, input_names, output_names)


def _end_names(ends: tuple[int, ...], entries: Any, tensors: tuple[Tensor, ...]) -> tuple[str, ...]:
    """Names of inputs or outputs: the signature's, else the tensors' own; a tensor given twice has two of them."""
    left = [(int(entry.tensorIndex), _text(entry.name)) for entry in entries or []]
    names = []
    for index in ends:
        found = next((entry for entry in left if entry[0] == index), (index, tensors[index].name))
        if found in left:
            left.remove(found)
        names.append(found[1])
    return tuple(names)


def _text(name: bytes | str | None) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else (name or "")


def _indices(values: Any) -> tuple[int, ...]:
    return () if values is None else tuple(int(v) for v in values)


def _buffer(buffer: Any, data: bytes) -> bytes:
    """The bytes of a buffer, which large files keep behind the flatbuffer at `offset`."""
    if buffer.offset > 1:
        return data[buffer.offset : buffer.offset + buffer.size]
    return b"" if buffer.data is None else np.asarray(buffer.data, np.uint8).tobytes()


def _tensor(index: int, tensor: Any, model: Any, data: bytes) -> Tensor:
    name = _text(tensor.name)
    if tensor.type not in _DTYPES:
        names = {v: k for k, v in vars(schema.TensorType).items()}
        raise ValueError(f"tensor {name!r}: type {names.get(tensor.type, tensor.type)} is not supported")
    dtype = np.dtype(_DTYPES[tensor.type])
    shape = _indices(tensor.shape)
    content = _buffer(model.buffers[tensor.buffer], data) if tensor.buffer else b""
    values = None
    if content or 0 in shape:
        if len(content) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"tensor {name!r}: expected {shape} {dtype}, got {len(content)} bytes")
        values = np.frombuffer(content, dtype).reshape(shape)
    return Tensor(index, name, dtype, shape, _quantization(name, tensor.quantization), values)


def _quantization(name: str, parameters: Any) -> Quantization | None:
    if parameters is None or parameters.scale is None or len(parameters.scale) == 0:
        return None
    scale = np.asarray(parameters.scale, np.float32)
    zero_point = np.zeros(scale.size, np.int64)
    if parameters.zeroPoint is not None and len(parameters.zeroPoint):
        zero_point = np.asarray(parameters.zeroPoint, np.int64)
    if zero_point.size not in (1, scale.size):
        raise ValueError(f"tensor {name!r}: expected {scale.size} zero points, got {zero_point.size}")
    return Quantization(scale, np.broadcast_to(zero_point, scale.shape), int(parameters.quantizedDimension))


def _operator(index: int, operator: Any, model: Any) -> Operator:
    code = model.operatorCodes[operator.opcodeIndex]
    # Codes above 127 stand in the second field, old files fill the first one only: the larger one is the code.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    custom = number == schema.BuiltinOperator.CUSTOM
    name = _text(code.customCode) if custom else _BUILTIN_NAMES.get(number, f"operator code {number}")
    inputs, outputs = _indices(operator.inputs), _indices(operator.outputs)
    return Operator(index, name, int(code.version), custom, inputs, outputs, operator.builtinOptions)
