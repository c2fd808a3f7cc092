"""Small `.tflite` files written by hand, and the stock interpreter that the reference is compared with."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

Array = np.ndarray
_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int64): schema.TensorType.INT64,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(np.int16): schema.TensorType.INT16,
    np.dtype(np.int8): schema.TensorType.INT8,
}
RESOLVERS = {"xnnpack": OpResolverType.AUTO, "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}


class Builder:
    """Tensors and operators added one by one; `finish` returns the bytes of the file."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.description = "test"
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def tensor(
        self,
        shape: Any,
        dtype: Any = np.int8,
        scale: Any = None,
        zero_point: Any = 0,
        axis: int = 0,
        name: str | None = None,
        signature: Any = None,
    ) -> int:
        """An activation; returns its index."""
        t = schema.TensorT()
        t.shape, t.type = list(shape), _TYPES[np.dtype(dtype)]
        t.shapeSignature = None if signature is None else list(signature)
        t.name = name or f"t{len(self.graph.tensors)}"
        if scale is not None:
            t.quantization = schema.QuantizationParametersT()
            t.quantization.scale = np.atleast_1d(np.asarray(scale, np.float32))
            zero = np.broadcast_to(np.asarray(zero_point, np.int64), t.quantization.scale.shape)
            t.quantization.zeroPoint = np.array(zero)
            t.quantization.quantizedDimension = axis
        self.graph.tensors.append(t)
        return len(self.graph.tensors) - 1

    def constant(self, data: Array, scale: Any = None, zero_point: Any = 0, axis: int = 0) -> int:
        """A constant; returns its index."""
        index = self.tensor(data.shape, data.dtype, scale, zero_point, axis)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        self.graph.tensors[index].buffer = len(self.model.buffers) - 1
        return index

    def op(self, name: str, inputs: list[int], outputs: list[int], options: Any = None, version: int = 1) -> None:
        """An operator: a builtin by the schema's name, anything else as a custom operator."""
        code = schema.OperatorCodeT()
        builtin = getattr(schema.BuiltinOperator, name, None)
        if builtin is None:
            builtin, code.customCode = schema.BuiltinOperator.CUSTOM, name
        code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
        self.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
            operator.builtinOptions = options
        self.graph.operators.append(operator)

    def finish(self, inputs: list[int], outputs: list[int]) -> bytes:
        self.graph.inputs, self.graph.outputs = list(inputs), list(outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def options(name: str, **fields: Any) -> Any:
    """The schema's options object `name`, e.g. options("Conv2DOptions", strideH=2)."""
    made = getattr(schema, name + "T")()
    for field, value in fields.items():
        assert hasattr(made, field), field
        setattr(made, field, value)
    return made


def interpret(model: bytes, x: Array | list[Array], rounding: str) -> Array | list[Array]:
    """What the stock interpreter gives, one picture at a time."""
    arrays = x if isinstance(x, list) else [x]
    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=RESOLVERS[rounding], num_threads=1)
    interpreter.allocate_tensors()
    ins, outs = interpreter.get_input_details(), interpreter.get_output_details()
    own = ins[0]["shape"][0]
    results: list[list[Array]] = [[] for _ in outs]
    for start in range(0, len(arrays[0]), own):
        for detail, array in zip(ins, arrays, strict=True):
            interpreter.set_tensor(detail["index"], np.ascontiguousarray(array[start : start + own]))
        interpreter.invoke()
        for result, detail in zip(results, outs, strict=True):
            result.append(interpreter.get_tensor(detail["index"]))
    joined = [np.concatenate(r) for r in results]
    return joined[0] if len(joined) == 1 else joined


def assert_same_codes(expected: Array, got: Array) -> None:
    """Zero differing codes, or a message with the first difference."""
    assert expected.shape == got.shape and expected.dtype == got.dtype, (
        expected.shape,
        expected.dtype,
        got.shape,
        got.dtype,
    )
    if not np.array_equal(expected, got):
        where = np.argwhere(expected != got)
        at = tuple(where[0])
        raise AssertionError(
            f"{len(where)} of {got.size} differ; first at {at}: interpreter {expected[at]}, engine {got[at]}"
        )
