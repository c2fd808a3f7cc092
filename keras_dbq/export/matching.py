"""Which operator and which tensor of the converted file is which of the Keras model.

Each call of a layer ran in a name scope of its own, its token ("n0007"). The converter joins the names of what it fuses
("n0008/Relu;n0007/Conv2D"), so a name can hold several tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_dbq.export.inference import GRID, TOKEN, InferenceGraph
from keras_dbq.export.kernels import Kernel
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.operators import Grid, channel_columns

# The converter writes float32((high - low) / 255) of bounds that were float32 themselves.
_SCALE_TOLERANCE = 1e-5


def tokens(*names: str) -> list[str]:
    """Name-scope tokens in the order in which they stand in the names, each once."""
    return list(dict.fromkeys(token for name in names for token in TOKEN.findall(name)))


class GridFinder:
    """The exact grid of a QUANTIZE: that of the fake-quant in its name."""

    def __init__(self, inference: InferenceGraph):
        self.grids = inference.grids

    def __call__(self, name: str, written: Grid) -> Grid:
        """The trained grid; `written` (the converter's) where the fake-quant is none of ours (a user's own).

        A name that holds several of our fake-quants is that of the one which the converter wrote.
        """
        ours = {self.grids[token] for token in GRID.findall(name) if token in self.grids}
        if not ours:
            return written
        found = [grid for grid in ours if _is_written_as(grid, written)]
        assert len(found) == 1, f"{name}: expected a grid out of {ours}, got {written}"
        return found[0]


def _is_written_as(grid: Grid, written: Grid) -> bool:
    return grid.zero_point == written.zero_point and abs(grid.scale / written.scale - 1) < _SCALE_TOLERANCE


class KernelFinder:
    """The integers of an operator: those of its argument, or of equal constants; by name among several equal ones.

    An equal bias, and equal constants, prove that the converter folded nothing into them; the name alone would not.

    Args:
      attached: {tensor: the kernel whose argument it was}, of `arguments.attach`.
    """

    def __init__(self, inference: InferenceGraph, attached: dict[int, Kernel]):
        self.inference, self.attached = inference, attached
        self.placed: dict[str, str] = {}  # output tensor's old name -> layer name
        self.missing = dict(inference.kernels)

    def __call__(self, model: Any, operator: Any, op: str) -> Kernel | None:
        """The kernel, or None where the operator's weights are computed or are none of ours."""
        if not fb.is_constant(model, int(operator.inputs[1])):
            return None
        equal = self._equal(model, operator, op)
        if not equal:
            return None
        weights, output = (_tensor_name(model, index) for index in (operator.inputs[1], operator.outputs[0]))
        token = self._choose(equal, tokens(weights, output))
        self.missing.pop(token, None)
        self.placed[output] = self.inference.kernels[token].name
        return self.inference.kernels[token]

    def _equal(self, model: Any, operator: Any, op: str) -> list[str]:
        """Tokens of the calls with these weights and this bias."""
        own, all_kernels = self.attached.get(int(operator.inputs[1])), self.inference.kernels
        if own is not None:
            found = [token for token, kernel in all_kernels.items() if kernel is own]
        else:
            columns = channel_columns(fb.constant(model, int(operator.inputs[1])), op)
            found = [token for token, kernel in all_kernels.items() if _same(kernel, columns)]
        seen = self.inference.biases
        return [token for token in found if np.array_equal(seen[token], _bias(model, operator, len(seen[token])))]

    def _choose(self, equal: list[str], named: list[str]) -> str:
        """Of equal kernels the one that the operator's names hold; of several such the first without an operator."""
        candidates = [token for token in named if token in equal] or equal
        return next((token for token in candidates if token in self.missing), candidates[0])

    def check_all_found(self) -> None:
        """Raises ValueError for a quantized layer whose weights are nowhere in the file.

        Two calls of a layer on one tensor are one operator there: TensorFlow joins what is computed twice.
        """
        lost = {kernel.name for kernel in self.missing.values()} - set(self.placed.values())
        if lost:
            names = ", ".join(sorted(lost))
            raise ValueError(
                f"layers {names}: expected their weights in the converted file, got others; the converter folded a "
                "neighbour into them: put a quantized layer between, or report the model"
            )


def _tensor_name(model: Any, index: int) -> str:
    return fb.text(model.subgraphs[0].tensors[index].name)


def _bias(model: Any, operator: Any, channels: int) -> np.ndarray:
    if len(operator.inputs) < 3 or operator.inputs[2] < 0:
        return np.zeros(channels, np.float32)
    return np.broadcast_to(fb.constant(model, int(operator.inputs[2])).reshape(-1), channels)


def _same(kernel: Kernel, columns: np.ndarray) -> bool:
    return kernel.columns.shape == columns.shape and np.array_equal(kernel.float_columns, columns)
