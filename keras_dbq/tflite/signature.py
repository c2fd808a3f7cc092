"""The inputs and outputs of a file: their order, what the user calls them, and whether the outputs form a dict.

A file holds tensors in an order of its own, and a signature that says what they are called. Ours has one signature, in
Keras' order and with Keras' names, so that stock runners find them, too (docs/packing.md).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from keras_dbq import _checks
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite import metadata

KEY = "serving_default"  # as in the stock converter's files
_OUTPUTS = "outputs"  # of our metadata entry
_DICT = "dict"


@dataclass(frozen=True)
class Ends:
    """Names of a file's inputs and outputs, in the file's order.

    outputs_are_dict: the Keras model gives a dict, so a run gives one too.
    """

    inputs: list[str]
    outputs: list[str]
    outputs_are_dict: bool = False

    def arrays(self, x: Any) -> list[Any]:
        """One array per input, of one array, a list in this order, or a dict by name.

        Raises:
          ValueError: another number of arrays, or other names.
        """
        return _checks.in_order("x", x, self.inputs)

    def structured(self, outputs: list[Any]) -> Any:
        """One array, a list in this order, or a dict where the Keras model gives one."""
        if self.outputs_are_dict:
            return dict(zip(self.outputs, outputs, strict=True))
        return outputs[0] if len(outputs) == 1 else outputs


def read(model: Any) -> Ends:
    """What a file's signature says; the tensors' own names where it has none."""
    graph, signature = model.subgraphs[0], _first(model)
    inputs = _names(model, graph.inputs, signature.inputs if signature else None)
    outputs = _names(model, graph.outputs, signature.outputs if signature else None)
    return Ends(inputs, outputs, metadata.read(model).get(_OUTPUTS) == _DICT)


def read_content(content: bytes) -> Ends:
    """`read` of a file that is known to be whole, without taking all of it apart: that would take most of a load."""
    whole = fb.schema.Model.GetRootAs(content)
    graph = whole.Subgraphs(0)
    inputs = [int(graph.Inputs(i)) for i in range(graph.InputsLength())]
    outputs = [int(graph.Outputs(i)) for i in range(graph.OutputsLength())]
    tensors = {i: SimpleNamespace(name=graph.Tensors(i).Name()) for i in {*inputs, *outputs}}
    signatures = (whole.SignatureDefs(i) for i in range(whole.SignatureDefsLength()))
    entries = [fb.schema.MetadataT.InitFromObj(whole.Metadata(i)) for i in range(whole.MetadataLength())]
    small = SimpleNamespace(
        subgraphs=[SimpleNamespace(inputs=inputs, outputs=outputs, tensors=tensors)],
        signatureDefs=[fb.schema.SignatureDefT.InitFromObj(signature) for signature in signatures],
        metadata=entries,
        buffers={e.buffer: fb.schema.BufferT.InitFromObj(whole.Buffers(e.buffer)) for e in entries},
    )
    return read(small)


def write(model: Any, ends: Ends) -> None:
    """The one signature of the file, for its inputs and outputs as they stand."""
    graph, signature = model.subgraphs[0], fb.schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = KEY, 0
    signature.inputs, signature.outputs = _entries(ends.inputs, graph.inputs), _entries(ends.outputs, graph.outputs)
    model.signatureDefs = [signature]
    if ends.outputs_are_dict:
        metadata.describe(model, **{_OUTPUTS: _DICT})


def _first(model: Any) -> Any:
    """The first signature of the first subgraph, or None."""
    return next((s for s in model.signatureDefs or [] if s.subgraphIndex == 0), None)


def _names(model: Any, indices: Any, entries: Any) -> list[str]:
    """The signature's names of these tensors; of a tensor with several names the next one each time."""
    named: dict[int, list[str]] = {}
    for entry in entries or []:
        named.setdefault(int(entry.tensorIndex), []).append(fb.text(entry.name))
    own = [fb.text(model.subgraphs[0].tensors[int(index)].name) for index in indices]
    used, names = Counter[int](), []
    for index, fallback in zip((int(i) for i in indices), own, strict=True):
        given = named.get(index, [fallback])
        names.append(given[min(used[index], len(given) - 1)])
        used[index] += 1
    return names


def _entries(names: list[str], indices: np.ndarray) -> list[Any]:
    entries = []
    for name, index in zip(names, indices, strict=True):
        entry = fb.schema.TensorMapT()
        entry.name, entry.tensorIndex = name, int(index)
        entries.append(entry)
    return entries
