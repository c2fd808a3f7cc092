"""Turns the converter's float `.tflite` with QUANTIZE / DEQUANTIZE pairs into a file of integers.

choice: the stock converter runs without its own quantizer. It then fuses bias, batch norm and activations, and leaves
a QUANTIZE / DEQUANTIZE pair at exactly each fake-quant of the model. What follows is bookkeeping: `grids.decide` says
which tensor is on which grid, and here the operators are written that way, with the integers that the model trained.
Nothing is measured or rounded a second time, so no rule of the converter's (which scale a channel gets, what feeds a
concatenation) can disagree with the training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_dbq.export import tables
from keras_dbq.export.grids import Codes, Plan, Step
from keras_dbq.export.kernels import Kernel, fit_bias, runnable_scale
from keras_dbq.limits import TOP_LEVEL
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.names import UNCLAMPED
from keras_dbq.tflite.operators import JOIN, KERNELS, Grid, from_columns, int8_version

Function = Callable[[np.ndarray], np.ndarray]


def integerize(model: Any, plan: Plan, functions: Mapping[int, Function]) -> dict[str, list[np.ndarray]]:
    """Rewrites a float ModelT in place, as its plan says.

    Args:
      functions: the functions of one number that the plan has tables of, by number.

    Returns:
      {layer name: for each of its operators (calls), what the int32 bias stands for, float64 [M]}.
    """
    return _Writer(model, plan, functions).write()


class _Writer:
    def __init__(self, model: Any, plan: Plan, functions: Mapping[int, Function]):
        self.model, self.graph, self.plan, self.functions = model, model.subgraphs[0], plan, functions
        self.operators: list[Any] = []  # the new list
        self.grids = dict(plan.grids)  # of the tensors of the file
        self.copies: dict[Codes, int] = {}  # the tensor that holds another tensor's numbers on another grid
        self.as_float: dict[int, int] = {}  # int8 tensor -> its dequantized copy
        self.biases: dict[str, list[np.ndarray]] = {}

    def write(self) -> dict[str, list[np.ndarray]]:
        for index in self.graph.inputs:
            self._write_copies(int(index))
        for step in self.plan.steps:
            self._write(step)
        self.graph.outputs = np.array([self._read(int(index)) for index in self.graph.outputs], np.int32)
        self.graph.operators = self.operators
        for index, grid in self.grids.items():
            self.graph.tensors[index].type = fb.schema.TensorType.INT8
            self.graph.tensors[index].quantization = _parameters(grid)
        return self.biases

    def _read(self, index: int) -> int:
        """The tensor of the file that a reader of `index` reads."""
        codes = self.plan.reads.get(index)
        return index if codes is None else self.copies.get(codes, codes.tensor)

    def _write(self, step: Step) -> None:
        operator, outputs = step.operator, [int(index) for index in step.operator.outputs]
        operator.inputs = np.array([self._read(int(index)) for index in operator.inputs], np.int32)
        if step.why_float:
            self._dequantize_inputs(operator)
        elif step.table is not None:
            operator = self._look_up(step, step.table)
        elif step.grid is not None:
            self._make_int8(step, step.grid)
        self.operators.append(operator)
        for position, index in enumerate(outputs):
            if step.clamps and step.grid is not None:
                self._clamp(operator, position, step.grid)
            self._write_copies(index)

    def _write_copies(self, index: int) -> None:
        """The same numbers on the further grids that are asked for."""
        for grid in self.plan.copies.get(index, []):
            copy = self.copies[Codes(index, grid)] = self._quantize(self._read(index), grid)
            self.graph.tensors[copy].name = self.plan.names.get(Codes(index, grid), self.graph.tensors[copy].name)
        for behind in self.plan.chains.get(index, []):
            self._write_copies(behind)

    def _quantize(self, index: int, grid: Grid) -> int:
        """A new tensor with the numbers of a float or int8 tensor on a grid."""
        target = self._new_tensor(index)
        self.grids[target] = grid
        self._append("QUANTIZE", 2 if index in self.grids else 1, [index], [target])
        if grid.bottom > -128:
            self._clamp(self.operators[-1], 0, grid)
        return target

    def _clamp(self, operator: Any, position: int, grid: Grid) -> None:
        """Under 8 bits: the operator just placed writes a new tensor instead, and MAXIMUM clips its codes."""
        index = int(operator.outputs[position])
        raw = self._new_tensor(index, UNCLAMPED)
        self.grids[raw] = grid
        operator.outputs = np.array(operator.outputs, np.int32)  # the converter's is read-only
        operator.outputs[position] = raw
        bottom = fb.add_tensor(self.model, np.array([grid.bottom], np.int8), "bottom_code", _parameters(grid))
        self._append("MAXIMUM", 2, [raw, bottom], [index])

    def _dequantize_inputs(self, operator: Any) -> None:
        for position, index in enumerate(int(i) for i in operator.inputs):
            if index not in self.grids:
                continue
            if index not in self.as_float:
                self.as_float[index] = self._new_tensor(index)
                self._append("DEQUANTIZE", 2, [index], [self.as_float[index]])
            operator.inputs[position] = self.as_float[index]

    # an int8 operator

    def _make_int8(self, step: Step, grid: Grid) -> None:
        operator = step.operator
        operator.opcodeIndex = fb.operator_code(self.model, step.name, int8_version(step.name))
        if step.kernel is not None:
            self._write_kernel(step, step.kernel)
            return
        for position, index in enumerate(int(i) for i in operator.inputs):
            if position in step.requantize:
                operator.inputs[position] = self._quantize(index, grid)
            elif self._is_float_constant(index):
                operator.inputs[position] = self._quantize_constant(index, grid if step.name in JOIN else None)

    def _is_float_constant(self, index: int) -> bool:
        is_float = index >= 0 and self.graph.tensors[index].type == fb.schema.TensorType.FLOAT32
        return is_float and fb.is_constant(self.model, index)

    def _quantize_constant(self, index: int, grid: Grid | None) -> int:
        """int8 copy of a float constant, symmetric on its own largest value unless a grid is given."""
        values = fb.constant(self.model, index)
        if grid is None:
            grid = Grid(float(np.float32(np.abs(values).max(initial=0) or 1) / np.float32(TOP_LEVEL)), 0)
        codes = np.clip(np.rint(values / np.float32(grid.scale)) + grid.zero_point, -128, 127).astype(np.int8)
        return fb.add_tensor(self.model, codes, fb.text(self.graph.tensors[index].name), _parameters(grid))

    def _write_kernel(self, step: Step, kernel: Kernel) -> None:
        """Weights, scales and an int32 bias in place of float constants."""
        operator, shape = step.operator, fb.shape_of(self.graph.tensors[step.operator.inputs[1]])
        source_scale = np.float32(self.grids[int(operator.inputs[0])].scale)
        # One scale for all channels: old runtimes want it in FULLY_CONNECTED, and a Rescaling becomes small.
        one = kernel.with_one_scale() if step.name == "FULLY_CONNECTED" or len(kernel.columns) == 1 else kernel
        fitted, bias = fit_bias(one, float(source_scale))
        axis = KERNELS[step.name].axis if len(fitted.scale) > 1 else 0
        real = bias * np.float64(source_scale) * fitted.scale.astype(np.float64)
        self.biases.setdefault(kernel.name, []).append(real)
        scale = runnable_scale(fitted.scale, float(source_scale), self.grids[int(operator.outputs[0])].scale)
        weights = from_columns(fitted.columns, shape, step.name)
        operator.inputs = np.array([
            operator.inputs[0],
            fb.add_tensor(self.model, weights, f"{kernel.name}/weights", fb.quantization(scale, 0, axis)),
            fb.add_tensor(self.model, bias, f"{kernel.name}/bias", fb.quantization(source_scale * scale, 0, 0)),
        ], np.int32)  # fmt: skip

    def _look_up(self, step: Step, number: int) -> Any:
        """The operator that looks codes up in the table of a function; those that make indices of them are placed."""
        source, target = int(step.operator.inputs[0]), int(step.operator.outputs[0])
        assert step.grid is not None
        values = tables.table(self.functions[number], self.grids[source], step.grid)
        *casts, gather = fb.look_up(self.model, source, values, target, _parameters(step.grid))
        self.operators += casts
        return gather

    # tensors and operators

    def _new_tensor(self, like: int, ending: str = "") -> int:
        """An activation of the same shape and type, named as the old one with an ending."""
        return fb.add_activation(self.model, like, fb.text(self.graph.tensors[like].name) + ending)

    def _append(self, name: str, version: int, inputs: list[int], outputs: list[int]) -> None:
        self.operators.append(fb.new_operator(self.model, name, version, inputs, outputs))


def _parameters(grid: Grid) -> Any:
    return fb.quantization(np.float32(grid.scale), grid.zero_point)
