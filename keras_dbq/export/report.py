"""What the export did: one row a layer, and totals that equal the file's bytes."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass, field
from typing import Any

from keras_dbq.export import flatbuffer as fb

SPARSITY_WARNING = 0.95
CUSTOM_OPS = {
    "CONV_2D": "DbqConv2D",
    "DEPTHWISE_CONV_2D": "DbqDepthwiseConv2D",
    "FULLY_CONNECTED": "DbqFullyConnected",
}
BUILTIN_OPS = {custom: builtin for builtin, custom in CUSTOM_OPS.items()}


@dataclass(frozen=True)
class LayerRow:
    """One layer with weights. Bytes are those of its constants: weights, scales, zero points, bias, parameters."""

    name: str
    op: str
    encoding: str  # "int8", "packed-1", "packed-2", or the type its weights kept
    branches: int  # 0: not ternary
    bytes_before: int
    bytes_after: int
    sparsity: list[float] = field(default_factory=list)  # share of zero codes, branch by branch
    note: str = ""  # why a layer that could have been ternary is not


@dataclass(frozen=True)
class ExportReport:
    """The result of an export or of a packing. str() prints a table; `data` holds the file.

    `other_before` and `other_after` hold the bytes that belong to no layer: other constants, activations' scales,
    names, metadata, signatures and the flatbuffer's own tables ("structure", what is left). All rows together are
    exactly `file_bytes_before` and `file_bytes_after`.
    """

    encoding: str
    layers: list[LayerRow]
    other_before: dict[str, int]
    other_after: dict[str, int]
    file_bytes_before: int
    file_bytes_after: int
    findings: list[str] = field(default_factory=list)  # what stayed float, extra QUANTIZE operators, ...
    data: bytes = field(default=b"", repr=False)

    @property
    def ratio(self) -> float:
        """File bytes after / before."""
        return self.file_bytes_after / self.file_bytes_before

    def to_dict(self) -> dict[str, Any]:
        """Everything but the file itself, as plain types."""
        return {k: v for k, v in asdict(self).items() if k != "data"}

    def to_json(self) -> str:
        """to_dict as JSON text."""
        return json.dumps(self.to_dict(), indent=1)

    def __str__(self) -> str:
        header = ("layer", "op", "encoding", "before", "after", "zeros", "note")
        rows = [_cells(row) for row in self.layers]
        for key in self.other_after:
            rows.append((f"({key})", "", "", f"{self.other_before[key]}", f"{self.other_after[key]}", "", ""))
        total = f"{self.file_bytes_before}", f"{self.file_bytes_after}", f"{self.ratio:.3f}"
        rows.append(("total (bytes of the file)", "", "", *total, ""))
        return "\n".join([format_table(header, rows), *(f"! {finding}" for finding in self.findings)])


def _cells(row: LayerRow) -> tuple[str, ...]:
    zeros = " ".join(f"{100 * share:.0f} %" for share in row.sparsity)
    return row.name, row.op, row.encoding, f"{row.bytes_before}", f"{row.bytes_after}", zeros, row.note


def format_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as their content; numbers to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: tuple[str, ...]) -> str:
        padded = (c.rjust(w) if c[:1].isdigit() else c.ljust(w) for c, w in zip(cells, widths, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join([line(header), line(tuple("-" * width for width in widths)), *map(line, rows)])


def warn_sparse(report: ExportReport) -> None:
    """One warning for the report, naming every branch with more than 95 % zeros."""
    sparse = [
        f"{row.name} branch {branch} ({100 * share:.1f} %)"
        for row in report.layers
        for branch, share in enumerate(row.sparsity)
        if share > SPARSITY_WARNING
    ]
    if sparse:
        warnings.warn(
            f"over {100 * SPARSITY_WARNING:.0f} % of the codes are zero in {', '.join(sparse)}; the branch may have "
            "collapsed: give it a smaller threshold, a lower learning rate, or fewer branches",
            stacklevel=3,
        )


def account_bytes(data: bytes, model: Any) -> tuple[dict[int, int], dict[str, int]]:
    """Says where every byte of a file is.

    Args:
      data: the file. model: its ModelT.

    Returns:
      ({operator index: bytes of its own constants}, {kind: bytes of everything else}); all together are len(data).
      A constant or a buffer that several operators share counts for the first.
    """
    graph, seen_buffers, seen_tensors = model.subgraphs[0], set(), set()

    def tensor_bytes(index: int) -> int:
        if index in seen_tensors:
            return 0
        seen_tensors.add(index)
        tensor = graph.tensors[index]
        shared = tensor.buffer in seen_buffers
        seen_buffers.add(tensor.buffer)
        return (0 if shared else fb.buffer_bytes(model, tensor)) + quantization_bytes(tensor)

    layers = {
        index: sum(tensor_bytes(int(i)) for i in operator.inputs[1:] if fb.is_constant(model, int(i)))
        for index, operator in enumerate(graph.operators)
        if has_weights(fb.op_name(model, operator))
    }
    constants = [i for i in range(len(graph.tensors)) if fb.is_constant(model, i)]
    other = {
        "other constants": sum(map(tensor_bytes, constants)),
        "activation scales": sum(map(tensor_bytes, range(len(graph.tensors)))),
        "tensor names": sum(len(fb.text(tensor.name).encode()) for tensor in graph.tensors),
        "metadata": sum(fb.buffer_bytes(model, entry) for entry in model.metadata or []),
    }
    other["structure"] = len(data) - sum(layers.values()) - sum(other.values())
    return layers, other


def has_weights(op: str) -> bool:
    """True for the operators that get a row of their own."""
    return op in CUSTOM_OPS or op in CUSTOM_OPS.values()


def quantization_bytes(tensor: Any) -> int:
    """Scales 4, zero points 8, min and max 4 bytes each."""
    parameters = tensor.quantization
    if parameters is None:
        return 0
    widths = (("scale", 4), ("zeroPoint", 8), ("min", 4), ("max", 4))
    arrays = ((getattr(parameters, name), width) for name, width in widths)
    return sum(width * len(values) for values, width in arrays if values is not None)
