"""Decides which tensor of the converter's float graph gets which grid, before anything is written.

The converter leaves a QUANTIZE / DEQUANTIZE pair at each fake-quant of the model: the pair asks for its tensor on a
grid. An operator whose inputs are codes and whose output is asked for becomes an int8 operator. Where another grid is
asked for than the operator writes, a QUANTIZE follows. Nothing is measured: every grid here is one that was trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from keras_dbq.export import tables
from keras_dbq.export.kernels import Kernel
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.operators import FIXED, INT8_OPS, JOIN, KERNELS, PASSES_GRID_BACK, SAME_GRID, Grid

KernelFinder = Callable[[Any, Any, str], Kernel | None]
GridFinder = Callable[[str, Grid], Grid]


class Codes(NamedTuple):
    """A tensor of the float graph, as codes on a grid."""

    tensor: int
    grid: Grid


@dataclass(frozen=True)
class Step:
    """What becomes of one operator."""

    operator: Any
    name: str
    grid: Grid | None = None  # of its outputs; None: it writes no codes
    kernel: Kernel | None = None  # its integer weights
    requantize: tuple[int, ...] = ()  # positions of inputs that have to be brought to `grid` first
    table: int | None = None  # number of the function whose table takes its place
    why_float: str = ""  # "": it becomes an int8 operator, or computes no real numbers (shapes)

    @property
    def clamps(self) -> bool:
        """Its codes have to be clipped from below: others are selected from codes that are, or are so in the table."""
        selects = self.table is not None or self.name in SAME_GRID | JOIN
        return self.grid is not None and self.grid.bottom > -128 and not selects


@dataclass
class Plan:
    """Every decision about a graph; indices are tensors of the float graph."""

    steps: list[Step] = field(default_factory=list)
    grids: dict[int, Grid] = field(default_factory=dict)  # tensors that an operator (or the caller) writes as codes
    copies: dict[int, list[Grid]] = field(default_factory=dict)  # further grids that readers want a tensor on
    reads: dict[int, Codes] = field(default_factory=dict)  # tensor behind a DEQUANTIZE -> what its readers get
    # Tensors behind a DEQUANTIZE that are asked for on yet another grid, by the tensor whose codes they are.
    chains: dict[int, list[int]] = field(default_factory=dict)
    names: dict[Codes, str] = field(default_factory=dict)  # of copies that are a layer's result
    requantized: list[int] = field(default_factory=list)  # tensors that go from one int8 grid to another


class Pair(NamedTuple):
    """A QUANTIZE, its output and those of the DEQUANTIZEs behind it: their readers want the tensor on this grid."""

    grid: Grid
    behind: list[int]


def decide(model: Any, find_kernel: KernelFinder, find_grid: GridFinder) -> Plan:
    """The plan for a float ModelT of the converter, which stays as it is.

    Args:
      model: float, with QUANTIZE / DEQUANTIZE pairs.
      find_kernel: (model, operator, its name) -> the integers of its weights, or None to leave the operator float.
      find_grid: (name of a QUANTIZE output, the converter's grid) -> the exact grid.
    """
    return _Decider(model, find_kernel, find_grid).decide()


def _is_pair_operator(model: Any, operator: Any) -> bool:
    return fb.op_name(model, operator) in ("QUANTIZE", "DEQUANTIZE")


def _pairs(model: Any, find_grid: GridFinder) -> dict[int, list[Pair]]:
    """{float tensor: its pairs}."""
    graph = model.subgraphs[0]
    behind: dict[int, list[int]] = {}
    for operator in graph.operators:
        if fb.op_name(model, operator) == "DEQUANTIZE":
            behind.setdefault(int(operator.inputs[0]), []).append(int(operator.outputs[0]))
    pairs: dict[int, list[Pair]] = {}
    for operator in graph.operators:
        if fb.op_name(model, operator) == "QUANTIZE":
            index = int(operator.outputs[0])
            grid = find_grid(fb.text(graph.tensors[index].name), _written_grid(graph.tensors[index]))
            # The converter lets a float operator behind a Reshape read the codes themselves.
            pairs.setdefault(int(operator.inputs[0]), []).append(Pair(grid, [*behind.get(index, []), index]))
    return pairs


def _written_grid(tensor: Any) -> Grid:
    """The converter's own; it writes uint8 where a fake-quant has 8 bits."""
    offset = 128 if tensor.type == fb.schema.TensorType.UINT8 else 0
    return Grid(float(fb.scales_of(tensor)[0]), int(fb.zero_points_of(tensor)[0]) - offset)


class _Decider:
    """Goes through the operators in their order; the plan so far says what stands at their inputs."""

    def __init__(self, model: Any, find_kernel: KernelFinder, find_grid: GridFinder):
        self.model, self.graph, self.find_kernel = model, model.subgraphs[0], find_kernel
        self.pairs = _pairs(model, find_grid)
        self.computing = [o for o in self.graph.operators if not _is_pair_operator(model, o)]
        self.readers: dict[int, list[Any]] = {}
        for operator in self.computing:
            for index in operator.inputs:
                self.readers.setdefault(int(index), []).append(operator)
        self.plan = Plan()

    def decide(self) -> Plan:
        for index in self.graph.inputs:
            self._settle(int(index), self._asked(int(index)))
        for operator in self.computing:
            step = self._step(operator)
            self.plan.steps.append(step)
            for index in operator.outputs:
                self._settle(int(index), step.grid)
        return self.plan

    def _asked(self, index: int) -> Grid | None:
        """The grid that a tensor's first pair asks for; without a pair, the one on which all its readers agree."""
        if index in self.pairs:
            return self.pairs[index][0].grid
        if index in self.graph.outputs:
            return None
        wanted = {self._asked_behind(operator) for operator in self.readers.get(index, [])}
        return wanted.pop() if len(wanted) == 1 else None

    def _asked_behind(self, operator: Any) -> Grid | None:
        passes = fb.op_name(self.model, operator) in PASSES_GRID_BACK
        return self._asked(int(operator.outputs[0])) if passes else None

    def _settle(self, index: int, written: Grid | None) -> None:
        """Notes the grid that a tensor is written on, and a copy for each pair that asks for another."""
        if written is not None:
            self.plan.grids[index] = written
        for pair in self.pairs.get(index, []):
            copies = self.plan.copies.setdefault(index, [])
            if pair.grid != written and pair.grid not in copies:
                copies.append(pair.grid)
                self.plan.requantized += [] if written is None else [self._source(index)]
            self.plan.reads.update(dict.fromkeys(pair.behind, Codes(index, pair.grid)))
            # Where an operator computes nothing (a mean of one pixel), the pair behind it follows this one at once.
            for behind in pair.behind:
                if behind in self.pairs:
                    self.plan.chains.setdefault(index, []).append(behind)
                    self._settle(behind, pair.grid)
                    for own in self.pairs[behind]:
                        name = fb.text(self.graph.tensors[own.behind[-1]].name)
                        self.plan.names[Codes(behind, own.grid)] = name

    # one operator

    def _step(self, operator: Any) -> Step:
        name = fb.op_name(self.model, operator)
        if not any(self._is_float(int(index)) for index in operator.outputs):
            return Step(operator, name)  # shape arithmetic
        kernel = self.find_kernel(self.model, operator, name) if name in KERNELS else None
        grid = self._grid_of_output(name, operator)
        reason, table = self._why_float(name, operator, grid, kernel), tables.marked(self.model, operator)
        if reason:
            return Step(operator, name, table=table, why_float=reason)
        requantize = self._inputs_on_other_grids(operator, grid) if name in JOIN else ()
        self.plan.requantized += [self._source(int(operator.inputs[position])) for position in requantize]
        return Step(operator, name, grid, kernel, requantize, table)

    def _grid_of_output(self, name: str, operator: Any) -> Grid | None:
        """The grid that the int8 operator writes; None where nothing asks for one."""
        if name in FIXED:
            return FIXED[name]
        if name in SAME_GRID:
            data = self._data_inputs(operator)
            return self._grid_read(data[0]) if data else None
        return self._asked(int(operator.outputs[0]))

    def _why_float(self, name: str, operator: Any, grid: Grid | None, kernel: Kernel | None) -> str:
        if name not in INT8_OPS:
            return "no int8 form here"
        if name in KERNELS and kernel is None:
            return "its weights are not quantized"
        if any(self._grid_read(index) is None for index in self._data_inputs(operator)):
            return "an input is not quantized"
        return "its output is not quantized" if grid is None else ""

    def _inputs_on_other_grids(self, operator: Any, grid: Grid | None) -> tuple[int, ...]:
        data = set(self._data_inputs(operator))
        indices = enumerate(int(index) for index in operator.inputs)
        return tuple(position for position, index in indices if index in data and self._grid_read(index) != grid)

    def _source(self, index: int) -> int:
        """The tensor whose numbers stand at `index`."""
        return self.plan.reads[index].tensor if index in self.plan.reads else index

    def _grid_read(self, index: int) -> Grid | None:
        return self.plan.reads[index].grid if index in self.plan.reads else self.plan.grids.get(index)

    def _is_float(self, index: int) -> bool:
        return index >= 0 and self.graph.tensors[index].type == fb.schema.TensorType.FLOAT32

    def _data_inputs(self, operator: Any) -> list[int]:
        """Float inputs that are no constants."""
        return [int(i) for i in operator.inputs if self._is_float(int(i)) and not fb.is_constant(self.model, int(i))]
