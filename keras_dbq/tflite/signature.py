"""The inputs and outputs of a file: their order, what the user calls them, and whether the outputs form a dict.

A file holds tensors in an order of its own, and a signature that says what they are called. Ours has one signature, in
Keras' order and with Keras' names, so that stock runners find them, too (docs/packing.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_dbq import _checks
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite import metadata
from keras_dbq.tflite.view import View

KEY = "serving_default"  # as in the stock converter's files
_OUTPUTS = "outputs"  # of our metadata entry
_DICT = "dict"
_Names = list[tuple[int, str]]  # tensor, name


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
    own = ([(int(i), fb.text(graph.tensors[int(i)].name)) for i in ends] for ends in (graph.inputs, graph.outputs))
    given: list[_Names] = [[], []]
    if signature is not None:
        parts = (signature.inputs, signature.outputs)
        given = [[(int(entry.tensorIndex), fb.text(entry.name)) for entry in part or []] for part in parts]
    inputs, outputs = map(_names, own, given)
    return Ends(inputs, outputs, metadata.read(model).get(_OUTPUTS) == _DICT)


def read_content(content: bytes) -> Ends:
    """`read` of a file that is known to be whole, without taking all of it apart: that would take most of a load."""
    model = View("Model", content)
    graph = model.get("subgraphs")[0]
    tensors = graph.get("tensors")
    own = [[(i, _text(tensors[i])) for i in graph.get(ends)] for ends in ("inputs", "outputs")]
    signature = next((s for s in model.get("signatures") or () if s.get("subgraph") == 0), None)
    given: list[_Names] = [[], []]
    if signature is not None:
        parts = (signature.get("inputs"), signature.get("outputs"))
        given = [[(entry.get("tensor"), _text(entry)) for entry in part or ()] for part in parts]
    inputs, outputs = map(_names, own, given)
    return Ends(inputs, outputs, gives_dict(content))


def gives_dict(content: bytes) -> bool:
    """Whether the outputs form a dict, of a file that is known to be whole.

    Raises:
      ValueError: our metadata entry is no JSON object.
    """
    return metadata.parse(_metadata(View("Model", content))).get(_OUTPUTS) == _DICT


def _text(view: View) -> str:
    return fb.text(view.get("name"))


def _metadata(model: View) -> bytes | None:
    """The bytes of our entry, as `flatbuffer.get_metadata` gives them."""
    for entry in model.get("metadata") or ():
        if _text(entry) == fb.METADATA_NAME:
            data: bytes | None = model.get("buffers")[entry.get("buffer")].get("data")
            return data or b""
    return None


def write(model: Any, ends: Ends) -> None:
    """The one signature of the file, for its inputs and outputs as they stand."""
    graph, signature = model.subgraphs[0], fb.schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = KEY, 0
    signature.inputs, signature.outputs = _entries(ends.inputs, graph.inputs), _entries(ends.outputs, graph.outputs)
    model.signatureDefs = [signature]
    if ends.outputs_are_dict:
        metadata.describe(model, outputs=_DICT)


def _first(model: Any) -> Any:
    """The first signature of the first subgraph, or None."""
    return next((s for s in model.signatureDefs or [] if s.subgraphIndex == 0), None)


def _names(own: _Names, given: _Names) -> list[str]:
    """The signature's names of these tensors; of a tensor with several names the next one each time."""
    named: dict[int, list[str]] = {}
    for index, name in given:
        named.setdefault(index, []).append(name)
    used: dict[int, int] = {}
    names = []
    for index, fallback in own:
        known, turn = named.get(index, [fallback]), used.get(index, 0)
        names.append(known[min(turn, len(known) - 1)])
        used[index] = turn + 1
    return names


def _entries(names: list[str], indices: np.ndarray) -> list[Any]:
    entries = []
    for name, index in zip(names, indices, strict=True):
        entry = fb.schema.TensorMapT()
        entry.name, entry.tensorIndex = name, int(index)
        entries.append(entry)
    return entries
