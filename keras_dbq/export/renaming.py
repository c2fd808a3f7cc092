"""Short, unique names for the tensors of a converted file: an activation is called after its Keras layer."""

from __future__ import annotations

from typing import Any

from keras_dbq.export.inference import InferenceGraph
from keras_dbq.export.matching import tokens
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.names import UNCLAMPED, UniqueNames


def rename(model: Any, inference: InferenceGraph, placed: dict[str, str]) -> None:
    """Gives every tensor its name.

    An activation is called after the layer whose operator computes it: a convolution with batch norm and ReLU fused is
    called as the convolution. Further tensors of one layer get #2, #3, ...

    Args:
      placed: {output tensor's old name: name of the layer whose weights its operator has}.
    """
    graph, unique = model.subgraphs[0], UniqueNames()
    ends = dict(zip([int(i) for i in graph.inputs], inference.input_layers, strict=True))
    for index, name in ends.items():
        graph.tensors[index].name = unique.give(name)
    # Activations before constants: the plain name is the activation's.
    activations = [int(index) for operator in graph.operators for index in operator.outputs]
    # Where one layer has several, the one whose operator has its weights.
    activations.sort(key=lambda index: fb.text(graph.tensors[index].name) not in placed)
    constants = [int(index) for operator in graph.operators for index in operator.inputs if index >= 0]
    for index in dict.fromkeys([*activations, *constants]):
        if index not in ends:
            tensor = graph.tensors[index]
            tensor.name = unique.give(_short_name(fb.text(tensor.name), inference, placed))


def _short_name(old: str, inference: InferenceGraph, placed: dict[str, str]) -> str:
    if old.endswith(UNCLAMPED):
        return _short_name(old.removesuffix(UNCLAMPED), inference, placed) + UNCLAMPED
    if old in placed:
        return placed[old]
    found = tokens(old)
    if found:
        return inference.tensor_names.get(found[0]) or inference.names[found[0]]
    if old.rsplit("/", 1)[0] in placed.values():
        return old  # the constants that `integerize` named
    return old.split(";")[0].split("/")[-1]
