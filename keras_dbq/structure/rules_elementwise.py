"""Rules of operators that keep or broadcast a shape, and of reductions."""

from __future__ import annotations

import math

from keras_dbq.structure.node import MANY, Node, Shape, rule
from keras_dbq.structure.rules_window import broadcast

# source: TFLite's kernels of quantized ADD and SUB add with 20 bits more, and end the process where the output's scale
# does not leave room for that.
_EXTRA_BITS = 20
_LARGEST_RATIO = float(1 << 15)


@rule(
    "RELU RELU6 RELU_N1_TO_1 RELU_0_TO_1 LOGISTIC TANH HARD_SWISH LEAKY_RELU ELU GELU ABS NEG EXP LOG SQRT RSQRT "
    "SQUARE SIN COS FLOOR CEIL ROUND SIGN LOGICAL_NOT ZEROS_LIKE QUANTIZE DEQUANTIZE CAST",
    (1, 1),
)
def unary(node: Node) -> list[Shape | None]:
    if node.name not in ("QUANTIZE", "DEQUANTIZE", "CAST") and node.type(0) != node.outputs[0].type_name:
        raise node.fail(f"an output of {node.type(0)}", node.outputs[0].type_name)
    _check_scales(node)
    return [node.shape(0)]


@rule("L2_NORMALIZATION", (1, 1))
def l2_normalization(node: Node) -> list[Shape | None]:
    """source: the kernel takes up to 4 axes, no activation, and of 8 bits its one grid."""
    output = node.outputs[0]
    if not 1 <= len(node.shape(0)) <= 4 or node.option("activation"):
        raise node.fail("1 to 4 axes and no activation", f"{node.shape(0)}, activation {node.option('activation')}")
    if output.type_name in ("INT8", "UINT8") and node.scale(output) != 1 / 128:
        raise node.fail("the output's scale 1/128", node.scale(output))
    return unary(node)


@rule("SOFTMAX LOG_SOFTMAX", (1, 1))
def softmax(node: Node) -> list[Shape | None]:
    beta = node.option("beta", 1) if node.name == "SOFTMAX" else 1
    if not 0 < beta < math.inf or not node.shape(0):
        raise node.fail("a beta that is finite and > 0, an axis", f"{beta}, shape {node.shape(0)}")
    return unary(node)


@rule(
    "ADD SUB MUL DIV MAXIMUM MINIMUM SQUARED_DIFFERENCE POW FLOOR_DIV FLOOR_MOD LESS LESS_EQUAL GREATER GREATER_EQUAL "
    "EQUAL NOT_EQUAL LOGICAL_AND LOGICAL_OR ATAN2",
    (2, 2),
)
def binary(node: Node) -> list[Shape | None]:
    node.choice("activation", 0, 5) if hasattr(node.options, "activation") else None
    if node.type(0) != node.type(1):
        raise node.fail(f"two inputs of {node.type(0)}", node.type(1))
    if node.name in ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM") and node.type(0) != node.outputs[0].type_name:
        raise node.fail(f"an output of {node.type(0)}", node.outputs[0].type_name)
    _check_scales(node)
    return [broadcast(node, node.shape(0), node.shape(1))]


@rule("PRELU", (2, 2))
def prelu(node: Node) -> list[Shape | None]:
    shape = broadcast(node, node.shape(0), node.shape(1))
    if len(shape) != len(node.shape(0)):
        raise node.fail("an alpha that broadcasts to the input", node.shape(1))
    _check_scales(node)
    return [shape]


@rule("SELECT SELECT_V2", (3, 3))
def select(node: Node) -> list[Shape | None]:
    if node.name == "SELECT":
        return [node.shape(1)]
    return [broadcast(node, node.shape(0), node.shape(1), node.shape(2))]


@rule("ADD_N", (1, MANY))
def add_n(node: Node) -> list[Shape | None]:
    return [broadcast(node, *(node.shape(i) for i in range(len(node.inputs))))]


@rule("MEAN SUM REDUCE_PROD REDUCE_MAX REDUCE_MIN REDUCE_ANY REDUCE_ALL", (2, 2))
def reduce(node: Node) -> list[Shape | None]:
    x, axes = node.shape(0), node.numbers(1)
    if node.type(0) != node.outputs[0].type_name:
        raise node.fail(f"an output of {node.type(0)}", node.outputs[0].type_name)
    if axes is None:
        return [None]
    along = {node.axis(axis, len(x)) for axis in axes}
    _check_scales(node)
    if node.option("keep"):
        return [tuple(1 if i in along else size for i, size in enumerate(x))]
    return [tuple(size for i, size in enumerate(x) if i not in along)]


@rule("ARG_MAX ARG_MIN", (2, 2))
def arg_extreme(node: Node) -> list[Shape | None]:
    x, axis = node.shape(0), node.numbers(1)
    if axis is None:
        return [None]
    if len(axis) != 1 or not x:
        raise node.fail("one axis", f"{axis} of {x}")
    along = node.axis(axis[0], len(x))
    return [x[:along] + x[along + 1 :]]


def _check_scales(node: Node) -> None:
    """One scale for each 8-bit tensor that is calculated with; with ADD and SUB also the room of the sum."""
    tensors = [t for t in (*node.inputs, *node.outputs) if t is not None and t.type_name in ("INT8", "UINT8")]
    if node.type(0) not in ("INT8", "UINT8") or node.name in ("CAST", "SIGN", "EQUAL", "NOT_EQUAL"):
        return
    scales = [node.scale(tensor) for tensor in tensors]
    if node.name not in ("ADD", "SUB") or len(scales) != 3:
        return
    ratio = 2 * max(scales[:2]) / scales[2]
    if not 2.0 ** -(_EXTRA_BITS + 7) < ratio < _LARGEST_RATIO:
        raise node.fail("scales of inputs and output that are near each other", scales)
