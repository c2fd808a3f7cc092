"""`check_file`: the one entry of this room."""

from __future__ import annotations

from typing import Any

from keras_dbq.structure.graph import Graph, operator_names
from keras_dbq.structure.reader import read
from keras_dbq.structure.tensors import check_buffers, damaged

_VERSION = 3


def check_file(data: bytes) -> None:
    """Refuses a damaged file before a reader or a runtime follows what stands in it.

    derived: the runtime takes sizes, offsets and indices from a file and trusts many of them. Here each is compared
    with what it has to agree with: offsets with the file's length; buffers with shapes and types; shapes with
    operators, weights and options; operators with the order in which tensors are computed. Of operators that are not
    known here only tensors and options are looked at.

    Args:
      data: the whole file.

    Raises:
      ValueError: one line: what, expected, got.
    """
    model = read(data)
    if model.version != _VERSION:
        raise damaged("the file", f"schema version {_VERSION}", model.version)
    model.buffers, model.subgraphs = model.buffers or [], model.subgraphs or []
    check_buffers(model.buffers, len(data))
    _check_lists(model)
    names = operator_names(model.operator_codes or [])
    for graph in model.subgraphs:
        Graph(graph, model, names, data).check()
    _check_signatures(model)


def _check_lists(model: Any) -> None:
    """A graph with inputs and outputs; the first buffer empty; metadata in buffers that exist."""
    if not model.subgraphs or not model.subgraphs[0].inputs or not model.subgraphs[0].outputs:
        raise damaged("the file", "a graph with inputs and outputs", "none")
    if not model.buffers or model.buffers[0].place is not None:
        raise damaged("buffer 0", "an empty one", "values" if model.buffers else "no buffers")
    if model.external_groups or model.external_buffers:
        raise ValueError("the file: expected weights inside of it, got buffers in other files")
    used = [*(entry.buffer for entry in model.metadata or []), *(model.metadata_buffer or ())]
    for buffer in used:
        if not 0 <= buffer < len(model.buffers):
            raise damaged("metadata", f"a buffer below {len(model.buffers)}", buffer)


def _check_signatures(model: Any) -> None:
    """Names of signatures stand for tensors that exist. (Converted int8 files name a float output that is gone.)"""
    for signature in model.signatures or []:
        if signature.subgraph >= len(model.subgraphs):
            raise damaged("a signature", f"a subgraph below {len(model.subgraphs)}", signature.subgraph)
        tensors = len(model.subgraphs[signature.subgraph].tensors or [])
        for entry in [*(signature.inputs or []), *(signature.outputs or [])]:
            if entry.tensor >= tensors:
                raise damaged(f"signature {entry.name!r}", f"a tensor below {tensors}", entry.tensor)
