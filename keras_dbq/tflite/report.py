"""What the export did: one row a layer, and totals that equal the file's bytes."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass, field
from typing import Any

from keras_dbq._table import Table
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.operators import has_weights

SPARSITY_WARNING = 0.95


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
        table = Table(
            ["layer", "op", "encoding", "bytes before", "bytes after", "zeros", "note"],
            total=["bytes before", "bytes after"],
        )
        for row in self.layers:
            zeros = " ".join(f"{100 * share:.0f} %" for share in row.sparsity)
            table.add(row.name, row.op, row.encoding, row.bytes_before, row.bytes_after, zeros, row.note)
        for key, size in self.other_after.items():
            table.add(f"({key})", "", "", self.other_before[key], size, "", "")
        lines = [str(table), f"file: {self.file_bytes_after:,} bytes, {self.ratio:.3f} of the int8 file"]
        return "\n".join([*lines, *(f"! {finding}" for finding in self.findings)])


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


def account_bytes(data: bytes) -> tuple[dict[int, int], dict[str, int]]:
    """Says where every byte of a file is.

    Returns:
      ({operator index: bytes of its own constants}, {kind: bytes of everything else}); all together are len(data).
      What several operators share (a tensor, a buffer, a vector of zero points) counts for the first.
    """
    model = fb.load_model(data)
    tensors, count = model.subgraphs[0].tensors, _Counter(model)
    layers = {
        index: sum(count.tensor(int(i)) for i in operator.inputs[1:] if fb.is_constant(model, int(i)))
        for index, operator in enumerate(model.subgraphs[0].operators)
        if has_weights(fb.op_name(model, operator))
    }
    constants = [index for index in range(len(tensors)) if fb.is_constant(model, index)]
    other = {
        "other constants": sum(map(count.tensor, constants)),
        "activation scales": sum(map(count.tensor, range(len(tensors)))),
        "tensor names": sum(len(fb.text(tensor.name).encode()) for tensor in tensors),
        "metadata": sum(count.vector(model.buffers[entry.buffer].data) for entry in model.metadata or []),
    }
    other["structure"] = len(data) - sum(layers.values()) - sum(other.values())
    return layers, other


class _Counter:
    """Bytes of vectors, each counted once."""

    def __init__(self, model: Any):
        self.model = model
        self.seen: set[int] = set()

    def vector(self, values: Any, width: int = 1) -> int:
        """Bytes of a vector, 0 if it was counted; the object API's arrays are views, so an address is a place."""
        if values is None or not len(values):
            return 0
        place = values.__array_interface__["data"][0]
        if place in self.seen:
            return 0
        self.seen.add(place)
        return width * len(values)

    def tensor(self, index: int) -> int:
        """Bytes of a tensor's data and quantization."""
        tensor = self.model.subgraphs[0].tensors[index]
        data, q = self.vector(self.model.buffers[tensor.buffer].data), tensor.quantization
        arrays = [] if q is None else [(q.scale, 4), (q.zeroPoint, 8), (q.min, 4), (q.max, 4)]
        return data + sum(self.vector(values, width) for values, width in arrays)
