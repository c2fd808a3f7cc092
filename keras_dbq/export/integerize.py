"""Turns the converter's float `.tflite` with QUANTIZE / DEQUANTIZE pairs into a file of integers.

choice: the stock converter runs without its own quantizer. It then fuses bias, batch norm and activations, and leaves
a QUANTIZE / DEQUANTIZE pair at exactly each fake-quant of the model. What follows is bookkeeping: a pair marks its
tensor, operators between marked tensors become int8, and weights are the integers that the model trained. Nothing is
measured or rounded a second time, so no rule of the converter's (which scale a channel gets, what feeds a
concatenation) can disagree with the training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_dbq.limits import BIAS_LIMIT, LEAST_ROOM, bias_room
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.levels import find_branches
from keras_dbq.tflite.operators import (
    FIXED,
    INT8_OPS,
    JOIN,
    KERNELS,
    PASSES_GRID_BACK,
    SAME_GRID,
    UNCLAMPED,
    Grid,
    int8_version,
)


@dataclass
class Kernel:
    """Integer weights and float bias for one operator, given by the caller."""

    name: str
    weights: np.ndarray  # int8, in the operator's layout
    scale: np.ndarray  # float32 [M], or [1] for all channels
    bias: np.ndarray  # float64 [M], real values


@dataclass
class Integerized:
    """What was found on the way."""

    floating: list[str] = field(default_factory=list)  # operators that stayed float, and why
    requantized: list[str] = field(default_factory=list)  # tensors that needed an int8 -> int8 QUANTIZE
    biases: dict[str, np.ndarray] = field(default_factory=dict)  # layer -> real values of its int32 bias, float64 [M]


KernelFinder = Callable[[Any, Any, str], Kernel | None]
GridFinder = Callable[[str, Grid], Grid]


def integerize(model: Any, find_kernel: KernelFinder, find_grid: GridFinder) -> Integerized:
    """Rewrites a float ModelT in place.

    Args:
      model: ModelT of the converter, float, with QUANTIZE / DEQUANTIZE pairs.
      find_kernel: (model, operator, its name) -> the integers of its weights, or None to leave the operator float.
      find_grid: (name of a QUANTIZE output, the converter's grid) -> the exact grid.
    """
    return _Integerizer(model, find_kernel, find_grid).run()


class _Integerizer:
    def __init__(self, model: Any, find_kernel: KernelFinder, find_grid: GridFinder):
        self.model, self.graph = model, model.subgraphs[0]
        self.find_kernel, self.find_grid = find_kernel, find_grid
        self.found = Integerized()
        self.operators: list[Any] = []  # the new list
        self.marks: dict[int, list[tuple[Grid, list[int]]]] = {}  # float tensor -> grids asked for, and their readers
        self.grid: dict[int, Grid] = {}  # tensors that are int8 now
        self.alias: dict[int, int] = {}  # dequantized tensor -> the tensor that replaces it
        self.as_float: dict[int, int] = {}  # int8 tensor -> its dequantized copy
        self.readers: dict[int, list[Any]] = {}

    def run(self) -> Integerized:
        computing = self._take_pairs()
        for operator in computing:
            for index in operator.inputs:
                self.readers.setdefault(int(index), []).append(operator)
        for index in self.graph.inputs:
            self._settle(int(index), self._asked(int(index)))
        for operator in computing:
            self._place(operator)
        self.graph.outputs = np.array([self.alias.get(int(i), int(i)) for i in self.graph.outputs], np.int32)
        self.graph.operators = self.operators
        self._write_grids()
        return self.found

    # reading the pairs

    def _take_pairs(self) -> list[Any]:
        """Collects QUANTIZE / DEQUANTIZE pairs into `marks` and returns the other operators."""
        names = [fb.op_name(self.model, operator) for operator in self.graph.operators]
        after: dict[int, list[int]] = {}
        for operator, name in zip(self.graph.operators, names, strict=True):
            if name == "DEQUANTIZE":
                after.setdefault(int(operator.inputs[0]), []).append(int(operator.outputs[0]))
        for operator, name in zip(self.graph.operators, names, strict=True):
            if name == "QUANTIZE":
                tensor = self.graph.tensors[operator.outputs[0]]
                written = self._converter_grid(tensor)
                grid = self.find_grid(fb.text(tensor.name), written)
                mark = (grid, after.get(int(operator.outputs[0]), []))
                self.marks.setdefault(int(operator.inputs[0]), []).append(mark)
        return [o for o, n in zip(self.graph.operators, names, strict=True) if n not in ("QUANTIZE", "DEQUANTIZE")]

    @staticmethod
    def _converter_grid(tensor: Any) -> Grid:
        offset = 128 if tensor.type == fb.schema.TensorType.UINT8 else 0
        return Grid(float(fb.scales_of(tensor)[0]), int(fb.zero_points_of(tensor)[0]) - offset)

    # deciding

    def _asked(self, index: int) -> Grid | None:
        """The grid that a tensor's marks ask for; without marks, the one on which all its readers agree."""
        if index in self.marks:
            return self.marks[index][0][0]
        wanted = set()
        for operator in self.readers.get(index, []):
            name = fb.op_name(self.model, operator)
            wanted.add(self._asked(int(operator.outputs[0])) if name in PASSES_GRID_BACK else None)
        return wanted.pop() if len(wanted) == 1 and index not in self._graph_outputs() else None

    def _graph_outputs(self) -> set[int]:
        return {int(index) for index in self.graph.outputs}

    def _settle(self, index: int, native: Grid | None) -> None:
        """Gives a tensor its grid, and each differing mark an operator that requantizes (or quantizes) it."""
        if native is not None:
            self.grid[index] = native
        for grid, replaced in self.marks.get(index, []):
            target = index
            if native != grid:
                target = self._copy_tensor(index)
                self.grid[target] = grid
                self._append("QUANTIZE", 2 if native else 1, [index], [target])
                self._clamp(self.operators[-1], 0, grid)
                where = fb.text(self.graph.tensors[index].name)
                if native is not None:
                    self.found.requantized.append(where)
            self.alias.update(dict.fromkeys(replaced, target))

    # placing one operator

    def _place(self, operator: Any) -> None:
        name = fb.op_name(self.model, operator)
        operator.inputs = np.array([self.alias.get(int(i), int(i)) for i in operator.inputs], np.int32)
        outputs = [int(index) for index in operator.outputs]
        if not any(self._is_float(index) for index in outputs):
            self.operators.append(operator)  # shape arithmetic
            return
        native = self._native_grid(name, operator)
        kernel = self.find_kernel(self.model, operator, name) if name in KERNELS else None
        reason = self._why_float(name, operator, native, kernel)
        if reason:
            self.found.floating.append(f"{name} {fb.text(self.graph.tensors[outputs[0]].name)!r}: {reason}")
            self._dequantize_inputs(operator)
            native = None
        else:
            assert native is not None
            self._make_int8(name, operator, native, kernel)
        self.operators.append(operator)
        for position, index in enumerate(outputs):
            if native is not None and name not in SAME_GRID | JOIN:
                self._clamp(operator, position, native)
            self._settle(index, native)

    def _is_float(self, index: int) -> bool:
        return index >= 0 and self.graph.tensors[index].type == fb.schema.TensorType.FLOAT32

    def _data_inputs(self, operator: Any) -> list[int]:
        """Float inputs that are no constants."""
        return [int(i) for i in operator.inputs if self._is_float(int(i)) and not fb.is_constant(self.model, int(i))]

    def _native_grid(self, name: str, operator: Any) -> Grid | None:
        if name in FIXED:
            return FIXED[name]
        data = self._data_inputs(operator)
        if name in SAME_GRID:
            return self.grid.get(data[0]) if data else None
        return self._asked(int(operator.outputs[0]))

    def _why_float(self, name: str, operator: Any, native: Grid | None, kernel: Kernel | None) -> str:
        if name not in INT8_OPS:
            return "no int8 form here"
        if name in KERNELS and kernel is None:
            return "its weights are not quantized"
        if any(index not in self.grid for index in self._data_inputs(operator)):
            return "an input is not quantized"
        if native is None:
            return "its output is not quantized"
        return ""

    def _dequantize_inputs(self, operator: Any) -> None:
        for position, index in enumerate(int(i) for i in operator.inputs):
            if index not in self.grid:
                continue
            if index not in self.as_float:
                self.as_float[index] = self._copy_tensor(index)
                self._append("DEQUANTIZE", 2, [index], [self.as_float[index]])
            operator.inputs[position] = self.as_float[index]

    def _make_int8(self, name: str, operator: Any, native: Grid, kernel: Kernel | None) -> None:
        operator.opcodeIndex = fb.operator_code(self.model, name, int8_version(name))
        if kernel is not None:
            self._write_kernel(name, operator, kernel)
            return
        for position, index in enumerate(int(i) for i in operator.inputs):
            if not self._is_float(index):
                continue
            if fb.is_constant(self.model, index):
                operator.inputs[position] = self._quantize_constant(index, native if name in JOIN else None)
            elif name in JOIN and self.grid[index] != native:
                operator.inputs[position] = self._requantize(index, native)

    def _requantize(self, index: int, grid: Grid) -> int:
        target = self._copy_tensor(index)
        self.grid[target] = grid
        self._append("QUANTIZE", 2, [index], [target])
        self._clamp(self.operators[-1], 0, grid)
        self.found.requantized.append(fb.text(self.graph.tensors[index].name))
        return target

    def _clamp(self, operator: Any, position: int, grid: Grid) -> None:
        """Where codes start above -128: the operator just placed writes a new tensor, and MAXIMUM clips its codes."""
        if grid.bottom == -128:
            return
        index = int(operator.outputs[position])
        raw = self._copy_tensor(index)
        self.graph.tensors[raw].name = fb.text(self.graph.tensors[index].name) + UNCLAMPED
        self.grid[raw] = grid
        operator.outputs = np.array(operator.outputs, np.int32)  # the converter's is read-only
        operator.outputs[position] = raw
        parameters = fb.quantization(np.float32(grid.scale), grid.zero_point)
        bound = fb.add_tensor(self.model, np.array([grid.bottom], np.int8), "bottom_code", parameters)
        self._append("MAXIMUM", 2, [raw, bound], [index])

    def _quantize_constant(self, index: int, grid: Grid | None) -> int:
        """int8 copy of a float constant, symmetric on its own largest value unless a grid is given."""
        values = fb.constant(self.model, index)
        if grid is None:
            grid = Grid(float(np.float32(np.abs(values).max(initial=0) or 1) / np.float32(127)), 0)
        codes = np.clip(np.rint(values / np.float32(grid.scale)) + grid.zero_point, -128, 127).astype(np.int8)
        parameters = fb.quantization(np.float32(grid.scale), grid.zero_point)
        return fb.add_tensor(self.model, codes, fb.text(self.graph.tensors[index].name), parameters)

    def _write_kernel(self, name: str, operator: Any, kernel: Kernel) -> None:
        """Weights, scales and bias = rint(b / (s_in * s_w)), which `fit_bias` made fit int32."""
        weights, scale, bias = fit_bias(kernel, KERNELS[name].axis, self.grid[int(operator.inputs[0])].scale)
        axis = KERNELS[name].axis if len(scale) > 1 else 0
        source_scale = np.float32(self.grid[int(operator.inputs[0])].scale)
        self.found.biases[kernel.name] = bias * np.float64(source_scale) * scale.astype(np.float64)
        operator.inputs = np.array([
            operator.inputs[0],
            fb.add_tensor(self.model, weights, f"{kernel.name}/weights", fb.quantization(scale, 0, axis)),
            fb.add_tensor(self.model, bias, f"{kernel.name}/bias", fb.quantization(source_scale * scale, 0, 0)),
        ], np.int32)  # fmt: skip

    # tensors and operators

    def _copy_tensor(self, index: int) -> int:
        old, new = self.graph.tensors[index], fb.schema.TensorT()
        new.shape, new.shapeSignature, new.type = old.shape, old.shapeSignature, old.type
        new.name, new.hasRank = fb.text(old.name), old.hasRank
        self.graph.tensors.append(new)
        return len(self.graph.tensors) - 1

    def _append(self, name: str, version: int, inputs: list[int], outputs: list[int]) -> None:
        operator = fb.schema.OperatorT()
        operator.opcodeIndex = fb.operator_code(self.model, name, version)
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        kind = {"QUANTIZE": "Quantize", "DEQUANTIZE": "Dequantize", "MAXIMUM": "MaximumMinimum"}[name] + "Options"
        operator.builtinOptionsType = getattr(fb.schema.BuiltinOptions, kind)
        operator.builtinOptions = getattr(fb.schema, kind + "T")()
        self.operators.append(operator)

    def _write_grids(self) -> None:
        for index, grid in self.grid.items():
            tensor = self.graph.tensors[index]
            tensor.type = fb.schema.TensorType.INT8
            tensor.quantization = fb.quantization(np.float32(grid.scale), grid.zero_point)


def fit_bias(kernel: Kernel, axis: int, source_scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(int8 weights, float32 scale, int32 bias) of a kernel for an input of scale `source_scale`.

    bias = rint(b / (s_in * s_w)) has to fit int32 beside the accumulator: K * 127 * 255 + |bias| <= 2**31 - 1.
    derived: a channel with a tiny weight scale (a batch norm gamma near 0) can have a larger one. Its scale is then
    raised to what the bias needs, and its branch scales (or, for linear weights, its integers) are rounded to the new
    scale; that moves each weight's share of the sum by at most bias / 2**31 times the input's code.
    """
    channels = kernel.weights.shape[axis]
    length = kernel.weights.size // channels
    room = bias_room(length)
    if room < LEAST_ROOM:
        raise ValueError(
            f"layer {kernel.name!r}: expected a dot product that fits int32, got {length} weights a channel; "
            "split the layer"
        )
    scale = kernel.scale.astype(np.float64)
    needed = np.abs(kernel.bias) / (np.float64(source_scale) * room)
    raised = np.maximum(scale, needed if len(scale) > 1 else needed.max(initial=0))
    weights = kernel.weights
    if np.any(raised > scale):
        weights = _shrink(weights, axis, np.broadcast_to(scale / raised, channels))
        raised = np.nextafter(raised.astype(np.float32), np.float32(np.inf))
    final = np.where(raised > scale, raised, kernel.scale).astype(np.float32)
    bias = np.rint(kernel.bias / (np.float64(source_scale) * final.astype(np.float64)))
    return weights, final, np.clip(bias, -BIAS_LIMIT, BIAS_LIMIT).astype(np.int32)


def _shrink(weights: np.ndarray, axis: int, ratio: np.ndarray) -> np.ndarray:
    """int8 weights times a ratio [M] in (0, 1] per channel; a channel of two branches keeps two branches."""
    columns = np.moveaxis(weights, axis, -1).reshape(-1, len(ratio)).astype(np.int64)
    for channel in np.flatnonzero(ratio < 1):
        found = find_branches(columns[:, channel : channel + 1].astype(np.int8))
        if found is None:
            columns[:, channel] = np.rint(columns[:, channel] * ratio[channel])
            continue
        scales = np.rint(found.scales[:, 0] * ratio[channel]).astype(np.int64)
        if len(scales) == 2 and scales[1] >= scales[0]:
            scales[1] = max(scales[0] - 1, 0)
        columns[:, channel] = (found.codes[:, :, 0] * scales[:, None]).sum(0)
    moved = np.moveaxis(weights, axis, -1).shape
    return np.ascontiguousarray(np.moveaxis(columns.reshape(moved), -1, axis)).astype(np.int8)
