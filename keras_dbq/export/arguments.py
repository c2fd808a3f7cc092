"""The converter gets quantized weights as arguments of the function, never as constants.

choice: so they need no way through the converter, which carries each as float32 through several copies of the graph
(four fifths of the time and of the memory of a network with 100 million weights). And which weights an operator has is
read off the graph: nothing can be folded into numbers that the converter does not know.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_dbq.export.kernels import Kernel
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.operators import KERNELS, from_columns

_UNWRITTEN = b"\0"  # a buffer that makes the tensor a constant; too short to be read as weights by mistake


def attach(model: Any, arguments: list[Kernel]) -> dict[int, Kernel]:
    """Makes a constant of each operator's weights that are an argument, and drops the operator that reorders those.

    Args:
      model: the converter's ModelT; its last inputs are the arguments. Changed in place.

    Returns:
      {tensor: its kernel}; the values are still to be written.
    """
    graph = model.subgraphs[0]
    first = len(graph.inputs) - len(arguments)
    found = {int(index): kernel for index, kernel in zip(graph.inputs[first:], arguments, strict=True)}
    graph.inputs = np.array(graph.inputs[:first], np.int32)
    operators = []
    for operator in graph.operators:
        kernel = found.get(int(operator.inputs[0])) if len(operator.inputs) else None
        if kernel is not None and _only_reorders(model, operator):
            found[int(operator.outputs[0])] = kernel
        else:
            operators.append(operator)
    graph.operators = operators
    read = {int(operator.inputs[1]) for operator in operators if fb.op_name(model, operator) in KERNELS}
    for index in read & set(found):
        graph.tensors[index].buffer = fb.add_buffer(model, _UNWRITTEN)
    return {index: found[index] for index in read & set(found)}


def _only_reorders(model: Any, operator: Any) -> bool:
    """Whether it brings the channels of an argument to where TFLite has them: HWIO -> OHWI, [K, M] -> [M, K], or a
    depthwise kernel to 1HWM.
    """
    name = fb.op_name(model, operator)
    if name == "RESHAPE":
        return True
    if name != "TRANSPOSE":
        return False
    order = [int(axis) for axis in fb.constant(model, int(operator.inputs[1]))]
    return order == [len(order) - 1, *range(len(order) - 1)]


def write_float(model: Any, operator: Any, kernel: Kernel) -> None:
    """The weights of an operator that stays in float."""
    tensor = model.subgraphs[0].tensors[operator.inputs[1]]
    values = from_columns(kernel.float_columns, fb.shape_of(tensor), fb.op_name(model, operator))
    tensor.buffer = fb.add_buffer(model, values)
