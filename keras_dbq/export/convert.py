"""Keras -> int8 `.tflite`: the stock converter on a plain graph, then our integers (see `integerize`)."""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.export.inference import TOKEN, InferenceGraph, KernelRecord, build
from keras_dbq.export.integerize import Kernel, integerize
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.operators import KERNELS, UNCLAMPED, Grid
from keras_dbq.tflite.slim import drop_metadata, drop_unused, share_buffers


@dataclass(frozen=True)
class Conversion:
    """An int8 file and what was found on the way."""

    data: bytes
    kernels: dict[str, KernelRecord] = field(default_factory=dict)  # layer name -> what it should hold
    floating: list[str] = field(default_factory=list)
    requantized: list[str] = field(default_factory=list)
    biases: dict[str, np.ndarray] = field(default_factory=dict)  # layer name -> what its int32 bias stands for

    @property
    def ternary_layers(self) -> list[str]:
        """Names of the layers whose weights are ternary branches."""
        return [name for name, record in self.kernels.items() if record.branches]


def convert(q_model: keras.Model) -> Conversion:
    """Converts a quantized model to a full-integer `.tflite`.

    Returns:
      Conversion: int8 input and output; tensors carry the names of the Keras layers that compute them.

    Raises:
      ValueError: a layer's weights are not found in the converted file (something was folded into them).
    """
    inference = build(q_model)
    model = fb.load_model(_run_converter(inference))
    finder = _KernelFinder(inference)
    found = integerize(model, finder, _grid_finder(inference))
    finder.check_all_found()
    renamed = _rename(model, inference, finder.placed)
    drop_metadata(model)
    drop_unused(model)
    share_buffers(model)
    return Conversion(
        fb.save_model(model),
        {record.name: record for record in inference.kernels.values()},
        [_with_names(text, renamed) for text in found.floating],
        [_with_names(text, renamed) for text in found.requantized],
        found.biases,
    )


def _run_converter(inference: InferenceGraph) -> bytes:
    """The stock converter without its quantizer; its chatter is kept from the terminal."""
    holder = tf.Module()
    holder.function = inference.function
    converter = tf.lite.TFLiteConverter.from_concrete_functions([inference.function], holder)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        return converter.convert()


def _tokens(*names: str) -> list[str]:
    """Name-scope tokens in the order in which they stand in the names, each once."""
    return list(dict.fromkeys(token for name in names for token in TOKEN.findall(name)))


def _grid_finder(inference: InferenceGraph) -> Any:
    def find(name: str, written: Grid) -> Grid:
        for token in _tokens(name):
            grid = inference.grids.get(token)
            if grid and grid.zero_point == written.zero_point and abs(grid.scale / written.scale - 1) < 1e-5:
                return grid
        return written

    return find


class _KernelFinder:
    """Finds the record of an operator: by equal weights and bias, and by name among several equal ones."""

    def __init__(self, inference: InferenceGraph):
        self.inference = inference
        self.placed: dict[str, str] = {}  # output tensor's old name -> layer name
        self.missing = dict(inference.kernels)

    def __call__(self, model: Any, operator: Any, op: str) -> Kernel | None:
        if not fb.is_constant(model, int(operator.inputs[1])):
            return None
        tensors = model.subgraphs[0].tensors
        weights = fb.constant(model, int(operator.inputs[1]))
        axis = KERNELS[op].axis
        columns = np.moveaxis(weights, axis, -1).reshape(-1, weights.shape[axis])
        bias = self._bias(model, operator, columns.shape[1])
        equal = [t for t, r in self.inference.kernels.items() if _same(r, columns, bias)]
        if not equal:
            return None
        output = fb.text(tensors[operator.outputs[0]].name)
        named = [t for t in _tokens(fb.text(tensors[operator.inputs[1]].name), output) if t in equal]
        free = [t for t in equal if t in self.missing]
        token = next(iter([t for t in named if t in free] or named or free or equal))
        self.missing.pop(token, None)
        record = self.inference.kernels[token]
        self.placed[output] = record.name
        moved = np.moveaxis(weights, axis, -1).shape
        integers = np.ascontiguousarray(np.moveaxis(record.columns.reshape(moved), -1, axis))
        # One scale for all channels is what old runtimes read in FULLY_CONNECTED.
        one = op == "FULLY_CONNECTED" and np.all(record.scale == record.scale[0])
        return Kernel(record.name, integers, record.scale[:1] if one else record.scale, record.bias)

    @staticmethod
    def _bias(model: Any, operator: Any, channels: int) -> np.ndarray:
        if len(operator.inputs) < 3 or operator.inputs[2] < 0:
            return np.zeros(channels, np.float32)
        return np.broadcast_to(fb.constant(model, int(operator.inputs[2])).reshape(-1), channels)

    def check_all_found(self) -> None:
        """Raises ValueError for a quantized layer whose weights are nowhere in the file."""
        if self.missing:
            names = ", ".join(sorted(record.name for record in self.missing.values()))
            raise ValueError(
                f"layers {names}: expected their weights in the converted file, got others; the converter folded a "
                "neighbour into them: put a quantized layer between, or report the model"
            )


def _same(record: KernelRecord, columns: np.ndarray, bias: np.ndarray) -> bool:
    expected = record.float_columns
    return (
        expected.shape == columns.shape
        and np.array_equal(expected, columns)
        and np.array_equal(record.bias.astype(np.float32), bias)
    )


def _rename(model: Any, inference: InferenceGraph, placed: dict[str, str]) -> dict[str, str]:
    """Gives every tensor a short, unique name; returns {old name: new name}.

    An activation is called after the layer whose operator computes it: a convolution with batch norm and ReLU fused is
    called as the convolution. Further tensors of one layer get #2, #3, ...
    """
    graph = model.subgraphs[0]
    renamed: dict[str, str] = {}
    taken: set[str] = set()
    ends = dict(zip([int(i) for i in graph.inputs], _end_names(model, inference), strict=True))

    def unique(name: str) -> str:
        suffix, candidate = 1, name
        while candidate in taken:
            suffix += 1
            candidate = f"{name}#{suffix}"
        taken.add(candidate)
        return candidate

    for index, name in ends.items():
        graph.tensors[index].name = unique(name)
    # Activations before constants: the plain name is the activation's.
    activations = [int(index) for operator in graph.operators for index in operator.outputs]
    constants = [int(index) for operator in graph.operators for index in operator.inputs if index >= 0]
    for index in dict.fromkeys([*activations, *constants]):
        if index not in ends:
            tensor = graph.tensors[index]
            old, tensor.name = fb.text(tensor.name), unique(_short_name(fb.text(tensor.name), inference, placed))
            renamed.setdefault(old, tensor.name)
    return renamed


def _short_name(old: str, inference: InferenceGraph, placed: dict[str, str]) -> str:
    if old.endswith(UNCLAMPED):
        return _short_name(old.removesuffix(UNCLAMPED), inference, placed) + UNCLAMPED
    if old in placed:
        return placed[old]
    tokens = _tokens(old)
    if not tokens and old.rsplit("/", 1)[0] in placed.values():
        return old  # the constants that `integerize` named
    if not tokens:
        return old.split(";")[0].split("/")[-1]
    return inference.tensor_names.get(tokens[0]) or inference.names[tokens[0]]


def _end_names(model: Any, inference: InferenceGraph) -> list[str]:
    """Names of the graph's inputs; the converter keeps the function's argument names input0, input1, ..."""
    names = []
    for position, index in enumerate(model.subgraphs[0].inputs):
        digits = "".join(c for c in fb.text(model.subgraphs[0].tensors[index].name).split("input")[-1].split(":")[0])
        names.append(inference.input_names[int(digits) if digits.isdigit() else position])
    return names


def _with_names(text: str, renamed: dict[str, str]) -> str:
    for old, new in renamed.items():
        text = text.replace(old, new)
    return text
