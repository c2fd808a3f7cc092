"""What is in a `.tflite` file, of us or of anyone: operators in order of execution, encodings, grids, bytes."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from keras_dbq._table import Table
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite import metadata, signature
from keras_dbq.tflite.levels import decode_trits
from keras_dbq.tflite.operators import BUILTIN_OPS, has_weights
from keras_dbq.tflite.params import Params
from keras_dbq.tflite.report import account_bytes

_INPUTS = 6  # of a packed operator without thresholds


@dataclass(frozen=True)
class TensorFacts:
    """One tensor.

    name: an end of the graph has the signature's name.  shape: with the batch, -1 where it is not fixed.
    dtype: of the file's schema in small letters.
    scale, zero_point: its grid, real = scale * (code - zero_point); None where it has none, or one per channel.
    """

    name: str
    shape: list[int]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class OperatorFacts:
    """One operator.

    op: its name in the schema, or its custom code.
    weights: "packed-1", "packed-2" (ternary branches), or the type of stored weights; "" without weights.
    bytes: of the constants of an operator with weights, 0 of others.
    zeros: share of zero codes, branch by branch; of int8 weights one number.
    thresholds: per channel, of a packed operator of format version 2; 0: it scales its sums.
    """

    index: int
    op: str
    output: TensorFacts
    weights: str = ""
    bytes: int = 0
    zeros: list[float] = field(default_factory=list)
    thresholds: int = 0


@dataclass(frozen=True)
class Contents:
    """A file. str() prints tables.

    other: bytes that belong to no operator with weights, by kind; with the operators' they are `file_bytes`.
    facts: what our metadata entry says (format version, encoding, rounding); empty in files of others.
    """

    file_bytes: int
    inputs: list[TensorFacts]
    outputs: list[TensorFacts]
    operators: list[OperatorFacts]
    other: dict[str, int]
    facts: dict[str, Any]

    @property
    def needs_delegate(self) -> bool:
        """Whether the file holds packed operators, which the stock interpreter alone does not know."""
        return any(operator.op in BUILTIN_OPS for operator in self.operators)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain types."""
        return asdict(self) | {"needs_delegate": self.needs_delegate}

    def __str__(self) -> str:
        table = Table(["", "operator", "output", "shape", "type", "scale", "zero point", "weights", "bytes", "zeros"])
        for row in self.operators:
            zeros = " ".join(f"{100 * share:.0f} %" for share in row.zeros)
            weights = f"{row.weights}, {row.thresholds} thresholds" if row.thresholds else row.weights
            table.add(row.index, row.op, *_cells(row.output), weights, row.bytes or "", zeros)
        sizes = Table(["where", "bytes"], total=["bytes"])
        sizes.add("operators with weights", sum(operator.bytes for operator in self.operators))
        for kind, size in self.other.items():
            sizes.add(kind, size)
        return "\n\n".join([_ends("input", self.inputs), str(table), _ends("output", self.outputs), str(sizes),
                            self._format()])  # fmt: skip

    def _format(self) -> str:
        said = ", ".join(f"{key} {value}" for key, value in sorted(self.facts.items()))
        runs = "needs the delegate of keras_dbq" if self.needs_delegate else "runs in the stock interpreter"
        return f"{runs}; {said or 'no metadata of keras_dbq'}"


def contents(source: bytes | str | os.PathLike) -> Contents:
    """What a file holds.

    Args:
      source: the file's bytes or its path.

    Raises:
      ValueError: not a TFLite file, a damaged one, or one of several subgraphs.  OSError: it cannot be read.
    """
    data = fb.read_bytes(source)
    model = fb.load_model(data)
    layers, other = account_bytes(data)
    graph, ends = model.subgraphs[0], signature.read(model)
    return Contents(
        len(data),
        [_tensor(graph.tensors[int(i)], name) for i, name in zip(graph.inputs, ends.inputs, strict=True)],
        [_tensor(graph.tensors[int(i)], name) for i, name in zip(graph.outputs, ends.outputs, strict=True)],
        [_operator(model, index, layers.get(index, 0)) for index in range(len(graph.operators))],
        other,
        metadata.read(model),
    )


def _cells(tensor: TensorFacts) -> tuple[Any, ...]:
    scale = "" if tensor.scale is None else f"{tensor.scale:.6g}"
    zero_point = "" if tensor.zero_point is None else tensor.zero_point
    return tensor.name, "x".join(map(str, tensor.shape)), tensor.dtype, scale, zero_point


def _ends(what: str, tensors: list[TensorFacts]) -> str:
    table = Table([what, "shape", "type", "scale", "zero point"])
    for tensor in tensors:
        table.add(*_cells(tensor))
    return str(table)


def _tensor(tensor: Any, name: str | None = None) -> TensorFacts:
    signed = tensor.shapeSignature
    shape = signed if signed is not None and len(signed) else tensor.shape
    q = tensor.quantization
    one = q is not None and q.scale is not None and len(q.scale) == 1
    return TensorFacts(
        fb.text(tensor.name) if name is None else name,
        [] if shape is None else [int(n) for n in shape],
        fb.TENSOR_TYPE_NAMES[tensor.type].lower(),
        float(q.scale[0]) if one else None,
        int(q.zeroPoint[0]) if one and q.zeroPoint is not None and len(q.zeroPoint) else None,
    )


def _operator(model: Any, index: int, size: int) -> OperatorFacts:
    operator = model.subgraphs[0].operators[index]
    name, outputs = fb.op_name(model, operator), operator.outputs
    output = _tensor(model.subgraphs[0].tensors[int(outputs[0])]) if len(outputs) else TensorFacts("", [], "")
    encoding, zeros = _weights(model, operator, name) if has_weights(name) else ("", [])
    counted = name in BUILTIN_OPS and len(operator.inputs) > _INPUTS
    thresholds = len(fb.constant(model, int(operator.inputs[_INPUTS]))) if counted else 0
    return OperatorFacts(index, name, output, encoding, size, zeros, thresholds)


def _weights(model: Any, operator: Any, name: str) -> tuple[str, list[float]]:
    """(encoding, share of zero codes)."""
    if name in BUILTIN_OPS:
        params = Params.from_array(fb.constant(model, int(operator.inputs[5])))
        planes = decode_trits(fb.constant(model, int(operator.inputs[1])), params.branches, _count(params, name))
        return f"packed-{params.branches}", [float(np.mean(plane == 0)) for plane in planes]
    index = int(operator.inputs[1])
    kind = fb.TENSOR_TYPE_NAMES[model.subgraphs[0].tensors[index].type].lower()
    if kind != "int8" or not fb.is_constant(model, index):
        return kind, []
    return kind, [float(np.mean(fb.constant(model, index) == 0))]


def _count(params: Params, name: str) -> int:
    """Weights of a packed layer."""
    channels = 1 if BUILTIN_OPS[name] == "DEPTHWISE_CONV_2D" else params.input_channels
    return params.kernel_height * params.kernel_width * channels * params.output_channels
