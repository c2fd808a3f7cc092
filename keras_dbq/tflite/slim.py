"""Dropping the bytes of a `.tflite` that no interpreter reads. What was tried, and who accepts it: docs/packing.md.

Each step is one function that edits a ModelT in place; `slim` runs the steps that are asked for, in this order. Two
things that look droppable stay: per-channel zero points (the interpreter refuses the file without all of them), and
the scales of a builtin operator's bias (without them XNNPACK leaves the operator to the builtin kernel, which is slower
and rounds differently). Packed layers need neither.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from keras_dbq.tflite import flatbuffer as fb


def drop_constant_names(model: Any) -> None:
    """Names of constants; activations keep theirs (a Keras layer is found by the name of its output)."""
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        if fb.is_constant(model, index):
            tensor.name = None


def drop_ranges(model: Any) -> None:
    """min and max of the float tensor that was quantized, and empty quantization tables."""
    for tensor in model.subgraphs[0].tensors:
        if tensor.quantization is None:
            continue
        tensor.quantization.min = tensor.quantization.max = None
        if not len(fb.scales_of(tensor)) and tensor.quantization.details is None:
            tensor.quantization = None


def drop_shape_signatures(model: Any) -> None:
    """The second copy of a shape, where it says the same, and of every constant and inner tensor."""
    graph = model.subgraphs[0]
    ends = {int(i) for i in [*graph.inputs, *graph.outputs]}
    for index, tensor in enumerate(graph.tensors):
        if tensor.shapeSignature is not None and index not in ends:
            tensor.shapeSignature = None


def drop_metadata(model: Any) -> None:
    """Every metadata entry but ours (min_runtime_version, CONVERSION_METADATA, ...), and the description."""
    model.metadata = [entry for entry in model.metadata or [] if fb.text(entry.name) == fb.METADATA_NAME]
    model.metadataBuffer, model.description = None, None


def drop_unused(model: Any) -> None:
    """Tensors and operator codes that nothing names any more."""
    graph = model.subgraphs[0]
    kept = sorted(fb.used_tensors(graph) | _signature_tensors(model))
    position = {old: new for new, old in enumerate(kept)}
    graph.tensors = [graph.tensors[old] for old in kept]
    for holder, attribute in fb.index_fields(model):
        moved = [position[int(i)] if i >= 0 else -1 for i in getattr(holder, attribute)]
        setattr(holder, attribute, np.array(moved, np.int32))
    for signature in model.signatureDefs or []:
        for entry in [*(signature.inputs or []), *(signature.outputs or [])]:
            entry.tensorIndex = position[entry.tensorIndex]
    codes = sorted({operator.opcodeIndex for operator in graph.operators})
    model.operatorCodes = [model.operatorCodes[old] for old in codes]
    for operator in graph.operators:
        operator.opcodeIndex = codes.index(operator.opcodeIndex)


def _signature_tensors(model: Any) -> set[int]:
    entries = [e for s in model.signatureDefs or [] for e in [*(s.inputs or []), *(s.outputs or [])]]
    return {int(entry.tensorIndex) for entry in entries}


def share_buffers(model: Any) -> None:
    """Buffers that nothing names are dropped, equal ones are kept once; buffer 0 stays the empty one."""
    old, new, position = model.buffers, [fb.schema.BufferT()], {b"": 0}
    holders = [*model.subgraphs[0].tensors, *(model.metadata or [])]
    for holder in holders:
        data = old[holder.buffer].data
        raw = b"" if data is None else np.asarray(data, np.uint8).tobytes()
        if raw not in position:
            position[raw] = len(new)
            new.append(old[holder.buffer])
        holder.buffer = position[raw]
    model.buffers = new


_STEPS: dict[str, Callable[[Any], None]] = {
    "constant_names": drop_constant_names,
    "ranges": drop_ranges,
    "shape_signatures": drop_shape_signatures,
    "metadata": drop_metadata,
    "unused": drop_unused,
    "buffers": share_buffers,
}
SLIM_STEPS = (*_STEPS, "vectors")  # the last one is done by flatbuffer.save_model


def slim(model: Any, steps: Collection[str] = SLIM_STEPS) -> None:
    """Runs the named steps on a ModelT, in place.

    Raises:
      ValueError: a step that does not exist.
    """
    unknown = sorted(set(steps) - set(SLIM_STEPS))
    if unknown:
        raise ValueError(f"slim_steps: expected names out of {', '.join(SLIM_STEPS)}, got {', '.join(unknown)}")
    for name, step in _STEPS.items():
        if name in steps:
            step(model)
