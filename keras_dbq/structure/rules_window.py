"""Rules of operators that slide a window or hold a matrix of weights: sizes, strides, filters, biases, scales."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_dbq.structure.node import ANY, Node, Shape, rule, total
from keras_dbq.structure.tensors import scales_of

# choice: no network has strides or filters of a million; larger ones overflow the runtime's int32 sums.
_LARGEST_STEP = 1 << 20
# source: XNNPACK creates no operator of a larger multiplier (docs/rounding.md), and the runtime loads no such file.
_LARGEST_MULTIPLIER = 256
_ACTIVATIONS = 5  # the last of the schema's ActivationFunctionType
# choice: more padding than this is damage; readers that lay pictures out with their padding take memory for it.
_LARGEST_PADDING = 1 << 10
_SAME, _VALID = 0, 1


def windows(node: Node, size: int, kernel: int, stride: int, dilation: int, padding: int) -> int:
    """How many windows fit along one axis; as open as its size. source: docs/rounding.md, equation (1)."""
    reach = (kernel - 1) * dilation + 1
    if reach > _LARGEST_STEP:
        raise node.fail(f"a kernel that reaches at most {_LARGEST_STEP} pixels", f"{kernel} taps, dilation {dilation}")
    if size < 0:
        return size
    if padding == _SAME:
        if reach - size > _LARGEST_PADDING:
            raise node.fail(f"at most {_LARGEST_PADDING} pixels of padding", f"{reach - size} around {size}")
        return -(-size // stride)
    if size < reach:
        raise node.fail(f"a kernel that fits into an input of {size}", f"{kernel} taps, dilation {dilation}")
    return (size - reach) // stride + 1


def window_shape(node: Node, source: Shape, kernel: Shape, channels: int) -> Shape:
    """Output [N, h, w, channels] of a window by the operator's own padding, strides and dilations."""
    padding = node.choice("padding", _SAME, _VALID)
    node.choice("activation", 0, _ACTIVATIONS)
    options = node.options.__dict__ if node.options is not None else {}
    sizes = []
    for axis, along in enumerate("hw"):
        stride = node.choice(f"stride_{along}", 1, _LARGEST_STEP)
        dilation = node.choice(f"dilation_{along}", 1, _LARGEST_STEP) if f"dilation_{along}" in options else 1
        sizes.append(windows(node, source[1 + axis], kernel[axis], stride, dilation, padding))
    return source[0], *sizes, channels


def filter_shape(node: Node, i: int, rank: int) -> Shape:
    """The shape of the weights in input i, none of its sizes 0 or open."""
    shape = node.rank(i, rank)
    if min(shape) < 1:
        raise node.fail(f"weights of sizes over 0 in input {i}", shape)
    return shape


def check_weights(node: Node, x: int, w: int, bias: int, axis: int) -> None:
    """Types and scales of an int8 operator with weights; what is not int8 is left to the runtime."""
    if node.has(bias) and total(node.shape(bias)) not in (ANY, node.shape(w)[axis]):
        raise node.fail(f"a bias of {node.shape(w)[axis]}", node.shape(bias))
    weights, output = node.inputs[w], node.outputs[0]
    if node.type(x) != output.type_name and node.name != "FULLY_CONNECTED":
        raise node.fail(f"an output of {node.type(x)}", output.type_name)
    if node.type(x) != "INT8" or output.type_name != "INT8":
        return
    if weights.type_name not in ("INT8", "INT4", "INT2"):
        raise node.fail("weights of INT8", weights.type_name)
    if node.has(bias) and node.type(bias) != "INT32":
        raise node.fail("a bias of INT32", node.type(bias))
    if len(node.inputs) == bias and node.name == "DEPTHWISE_CONV_2D":
        raise node.fail("a third input, the bias", "two inputs")  # the builtin kernel reads it unasked
    scales = scales_of(weights)
    if len(scales) not in (1, node.shape(w)[axis]) or (len(scales) > 1 and weights.quantization.axis != axis):
        raise node.fail(f"1 or {node.shape(w)[axis]} scales of the weights along axis {axis}", len(scales))
    largest = node.scale(node.inputs[x]) * float(np.max(scales)) / node.scale(output)
    if not largest < _LARGEST_MULTIPLIER:
        raise node.fail(f"scales of input * weights / output below {_LARGEST_MULTIPLIER}", largest)


@rule("CONV_2D", (2, 3))
def conv_2d(node: Node) -> list[Shape | None]:
    x, w = node.rank(0, 4), filter_shape(node, 1, 4)
    groups = max(x[3], 0) // w[3]
    if x[3] >= 0 and (groups < 1 or x[3] % w[3] or w[0] % groups):
        raise node.fail(f"input channels a multiple of the filter's {w[3]}", f"{x[3]} channels, {w[0]} filters")
    check_weights(node, 0, 1, 2, axis=0)
    return [window_shape(node, x, w[1:3], w[0])]


@rule("DEPTHWISE_CONV_2D", (2, 3))
def depthwise_conv_2d(node: Node) -> list[Shape | None]:
    x, w = node.rank(0, 4), filter_shape(node, 1, 4)
    if w[0] != 1 or x[3] == 0 or (x[3] > 0 and w[3] % x[3]):
        raise node.fail(f"a multiple of the {x[3]} input channels as depthwise filters", w)
    if x[3] > 0 and node.option("multiplier") not in (0, w[3] // x[3]):
        raise node.fail(f"depth multiplier {w[3] // x[3]}", node.option("multiplier"))
    check_weights(node, 0, 1, 2, axis=3)
    return [window_shape(node, x, w[1:3], w[3])]


@rule("TRANSPOSE_CONV", (3, 4))
def transpose_conv(node: Node) -> list[Shape | None]:
    wanted, w, x = node.numbers(0), filter_shape(node, 1, 4), node.rank(2, 4)
    if x[3] >= 0 and x[3] != w[3]:
        raise node.fail(f"{w[3]} input channels", x[3])
    check_weights(node, 2, 1, 3, axis=0)
    if wanted is None:
        return [(x[0], ANY, ANY, w[0])]
    if len(wanted) != 4 or min(wanted) < 1 or wanted[3] != w[0]:
        raise node.fail(f"an output shape of 4 sizes that ends in {w[0]}", wanted)
    back = window_shape(node, wanted, w[1:3], x[3])
    if any(b != size for b, size in zip(back[1:3], x[1:3], strict=True) if size >= 0):
        raise node.fail(f"an output that a window of {w[1:3]} takes back to {x[1:3]}", wanted)
    return [(x[0] if x[0] < 0 else wanted[0], *wanted[1:])]


@rule("FULLY_CONNECTED", (2, 3))
def fully_connected(node: Node) -> list[Shape | None]:
    x, w = node.shape(0), filter_shape(node, 1, 2)
    node.choice("activation", 0, _ACTIVATIONS)
    node.choice("weights_format", 0, 1)
    check_weights(node, 0, 1, 2, axis=0)
    return [dense_shape(node, x, w[0], w[1], bool(node.option("keep_num_dims")))]


def dense_shape(node: Node, x: Shape, outputs: int, inputs: int, keep: bool) -> Shape:
    """Rows of `inputs` become rows of `outputs`."""
    if keep:
        if not x or (x[-1] >= 0 and x[-1] != inputs):
            raise node.fail(f"an input whose last axis is the {inputs} input features", x)
        return (*x[:-1], outputs)
    count = total(x)
    if count % inputs and count >= 0:
        raise node.fail(f"an input whose size is divisible by the {inputs} input features", x)
    if count < 0 and x[1:] == (inputs,):
        return (x[0], outputs)
    return (ANY if count < 0 else count // inputs, outputs)


@rule("AVERAGE_POOL_2D MAX_POOL_2D L2_POOL_2D", (1, 1))
def pool(node: Node) -> list[Shape | None]:
    x = node.rank(0, 4)
    kernel = (node.choice("filter_h", 1, _LARGEST_STEP), node.choice("filter_w", 1, _LARGEST_STEP))
    return [window_shape(node, x, kernel, x[3])]


@rule("BATCH_MATMUL", (2, 2))
def batch_matmul(node: Node) -> list[Shape | None]:
    a, b = list(node.shape(0)), list(node.shape(1))
    if not (2 <= len(a) <= 5 and 2 <= len(b) <= 5):
        raise node.fail("matrices of 2 to 5 axes", f"shapes {a} and {b}")
    if node.option("adjoint_x"):
        a[-2:] = a[:-3:-1]
    if node.option("adjoint_y"):
        b[-2:] = b[:-3:-1]
    if a[-1] != b[-2] and min(a[-1], b[-2]) >= 0:
        raise node.fail(f"{a[-1]} rows in the second matrix", b)
    _check_products(node)
    return [(*broadcast(node, tuple(a[:-2]), tuple(b[:-2])), a[-2], b[-1])]


def _check_products(node: Node) -> None:
    """Types and scales of matrices of which both are computed; int8 codes of one of them mean another kernel."""
    first, second, output = node.inputs[0], node.inputs[1], node.outputs[0]
    if first.type_name != output.type_name and output.type_name != "INT32":
        raise node.fail(f"an output of {first.type_name}", output.type_name)
    if first.type_name != second.type_name and (first.type_name, second.type_name) != ("FLOAT32", "INT8"):
        raise node.fail(f"two matrices of {first.type_name}", second.type_name)
    if output.type_name in ("INT8", "INT16"):
        [node.scale(tensor) for tensor in (first, second, output)]


def broadcast(node: Node, *shapes: Shape) -> Shape:
    """The common shape, by numpy's rule; a size that is open stays so unless another is over 1."""
    rank = max(map(len, shapes))
    result = []
    for sizes in zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True):
        fixed = {size for size in sizes if size == 0 or size > 1}
        if len(fixed) > 1:
            raise node.fail("shapes that broadcast", " and ".join(map(str, shapes)))
        result.append(fixed.pop() if fixed else min(sizes))
    return tuple(result)


def _packed(node: Node) -> Any:
    """params of a Dbq operator: int32 [16], with thresholds [17], docs/packing.md."""
    values, wanted = node.numbers(5), 10 + len(node.inputs)
    if values is None or len(values) != wanted or node.type(5) != "INT32":
        raise node.fail(f"{wanted} constant int32 values as params", values)
    return values


def _check_thresholds(node: Node, outputs: int) -> None:
    """int32 [1..15, M]; their values are checked by whoever decodes them."""
    shape = node.shape(6)
    fits = len(shape) == 2 and 1 <= shape[0] <= 15 and shape[1] == outputs and node.type(6) == "INT32"
    if not fits or not node.inputs[6].constant:
        raise node.fail(f"thresholds as a constant int32 tensor [1..15, {outputs}]", shape)


@rule("DbqConv2D DbqDepthwiseConv2D DbqFullyConnected", (6, 7))
def packed(node: Node) -> list[Shape | None]:
    """Sizes by params; the values of codes and scales are checked by whoever decodes them."""
    p = _packed(node)
    branches, kernel, inputs, outputs = p[1], p[2:4], p[4], p[5]
    for i, name in enumerate(("codes", "branch_scales", "scales", "bias"), 1):
        if not node.inputs[i].constant:
            raise node.fail(f"{name} as a constant tensor", "an activation")
    if branches not in (1, 2) or not all(1 <= value <= _LARGEST_STEP for value in p[2:10]):
        raise node.fail(f"1 or 2 branches, sizes, strides, dilations from 1 to {_LARGEST_STEP} in params", p)
    if not (0 <= p[10] <= 1 and 0 <= p[11] <= 3 and 0 <= p[15] <= 1 and all(-128 <= z <= 127 for z in p[13:15])):
        raise node.fail("padding, activation, zero points and keep_num_dims in their range in params", p)
    taps = kernel[0] * kernel[1] * (1 if node.name == "DbqDepthwiseConv2D" else inputs)
    lengths = {1: branches * -(-taps * outputs // 5), 2: branches * outputs, 3: 2 + outputs, 4: outputs}
    for i, wanted in lengths.items():
        if total(node.shape(i)) != wanted:
            raise node.fail(f"{wanted} values in input {i}", node.shape(i))
    if len(node.inputs) == 7:
        _check_thresholds(node, outputs)
    if node.name == "DbqFullyConnected":
        return [dense_shape(node, node.shape(0), outputs, inputs, bool(p[15]))]
    x = node.rank(0, 4)
    if x[3] >= 0 and x[3] != inputs:
        raise node.fail(f"an input [N, H, W, {inputs}]", x)
    sizes = [windows(node, x[1 + i], kernel[i], p[6 + i], p[8 + i], p[10]) for i in range(2)]
    return [(x[0], *sizes, outputs)]
