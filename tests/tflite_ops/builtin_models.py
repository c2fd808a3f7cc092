"""Random files with one builtin int8 operator, for the operators that the delegate takes over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.tflite_ops.packed_models import Case, coarse, int8_model
from tests.tflite_ops.random_model import Example, RandomModel

OP, OPTIONS = schema.BuiltinOperator, schema.BuiltinOptions


def _conv_case(seed: int, kind: str) -> Case:
    r = RandomModel(seed)
    kernel, stride = (r.int(1, 5), r.int(1, 5)), (r.int(1, 3), r.int(1, 3))
    dilation = (r.int(1, 2), r.int(1, 2)) if stride == (1, 1) else (1, 1)
    multiplier = r.int(1, 3) if kind == "depthwise_conv2d" else 0
    channels = r.int(1, 40)
    return Case(
        kind,
        (r.int(1, 2), r.int(9, 14), r.int(9, 14), channels),
        channels * multiplier or r.int(1, 70),
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        padding=("same", "valid")[r.int(0, 1)],
        activation=("none", "relu", "relu_n1_to_1", "relu6")[r.int(0, 3)],
        branches=2,
        multiplier=multiplier,
        input_zero_point=r.int(-128, 127),
        output_zero_point=r.int(-128, 127),
        per_tensor=seed % 2 == 1,
        scale_bits=r.scale_bits,
        seed=seed,
    )


def _layer(case: Case) -> Example:
    codes = np.random.default_rng(case.seed + 1).integers(-128, 128, case.input_shape).astype(np.int8)
    return Example(int8_model(case), [codes])


def convolution(seed: int) -> Example:
    return _layer(_conv_case(seed, "conv2d"))


def depthwise(seed: int) -> Example:
    return _layer(_conv_case(seed, "depthwise_conv2d"))


def fully_connected(seed: int) -> Example:
    r = RandomModel(seed)
    return _layer(
        Case(
            "fully_connected",
            (r.int(1, 20), r.int(1, 200)),
            r.int(1, 130),
            activation=("none", "relu", "relu_n1_to_1", "relu6")[r.int(0, 3)],
            branches=2,
            input_zero_point=r.int(-128, 127),
            output_zero_point=r.int(-128, 127),
            per_tensor=seed % 2 == 1,
            scale_bits=r.scale_bits,
            seed=seed,
        )
    )


def grouped(seed: int) -> Example:
    """CONV_2D whose input has several times the weights' channels."""
    r = RandomModel(seed)
    groups, inner, outer = r.int(2, 4), r.int(1, 9), r.int(1, 9)
    size, kernel = r.int(4, 9), r.int(1, 3)
    (sx, zx), (_, zy) = r.quantization(), r.quantization()
    x = r.builder.tensor("x", (1, size, size, groups * inner), scale=sx, zero_point=zx)
    sw = coarse(r.rng.uniform(0.005, 0.02, groups * outer), r.scale_bits)
    w = r.rng.integers(-127, 128, (groups * outer, kernel, kernel, inner)).astype(np.int8)
    weights = r.builder.tensor("w", w.shape, data=w, scale=sw)
    bias = r.rng.integers(-5000, 5000, groups * outer).astype(np.int32)
    b = r.builder.tensor("b", bias.shape, "int32", bias, scale=sx * sw)
    sy = np.float32(coarse(sx * 0.0125 * np.sqrt(kernel * kernel * inner) * 74 * 73 / 60, r.scale_bits))
    y = r.builder.tensor("y", (1, size, size, groups * outer), scale=sy, zero_point=zy)
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
    operator = r.builder.operator(OP.CONV_2D, [x, weights, b], [y])
    operator.builtinOptionsType, operator.builtinOptions = OPTIONS.Conv2DOptions, options
    return r.finish([x], y, [(1, size, size, groups * inner)])


def _elementwise(seed: int, code: int, kind: int, options: object) -> Example:
    r = RandomModel(seed)
    shape = r.image() if r.int(0, 3) else r.image()[2:]
    a, b, y = (r.tensor(n, shape, r.quantization()) for n in "aby")
    options.fusedActivationFunction = r.int(0, 3)  # type: ignore[attr-defined]
    operator = r.builder.operator(code, [a, b], [y])
    operator.builtinOptionsType, operator.builtinOptions = kind, options
    return r.finish([a, b], y, [shape, shape])


def add(seed: int) -> Example:
    return _elementwise(seed, OP.ADD, OPTIONS.AddOptions, schema.AddOptionsT())


def mul(seed: int) -> Example:
    return _elementwise(seed, OP.MUL, OPTIONS.MulOptions, schema.MulOptionsT())


def mean(seed: int) -> Example:
    """Where a mean can lie on a tie, runtimes round it differently, and the delegate leaves the operator alone."""
    r = RandomModel(seed)
    n, h, w, c = r.image()
    x, y_quantization = r.tensor("x", (n, h, w, c), r.quantization()), r.quantization()
    axes = np.array([1, 2] if r.int(0, 1) else [2, 1], np.int32)
    options = schema.ReducerOptionsT()
    options.keepDims = bool(r.int(0, 1))
    y = r.tensor("y", (n, 1, 1, c) if options.keepDims else (n, c), y_quantization)
    operator = r.builder.operator(OP.MEAN, [x, r.builder.tensor("axes", (2,), "int32", axes)], [y])
    operator.builtinOptionsType, operator.builtinOptions = OPTIONS.ReducerOptions, options
    return r.finish([x], y, [(n, h, w, c)])


def _pool(seed: int, code: int) -> Example:
    r = RandomModel(seed)
    n, h, w, c = r.image()
    q = r.quantization()
    options = schema.Pool2DOptionsT()
    options.filterHeight, options.filterWidth = min(r.int(1, 4), h), min(r.int(1, 4), w)
    options.strideH, options.strideW = r.int(1, 3), r.int(1, 3)
    options.padding, options.fusedActivationFunction = r.int(0, 1), r.int(0, 3)
    sizes = ((h, options.filterHeight, options.strideH), (w, options.filterWidth, options.strideW))
    out = [-(-s // t) if options.padding == 0 else (s - k) // t + 1 for s, k, t in sizes]
    x, y = r.tensor("x", (n, h, w, c), q), r.tensor("y", (n, *out, c), q)
    operator = r.builder.operator(code, [x], [y])
    operator.builtinOptionsType, operator.builtinOptions = OPTIONS.Pool2DOptions, options
    return r.finish([x], y, [(n, h, w, c)])


def average_pool(seed: int) -> Example:
    return _pool(seed, OP.AVERAGE_POOL_2D)


def max_pool(seed: int) -> Example:
    return _pool(seed, OP.MAX_POOL_2D)


def pad(seed: int) -> Example:
    r = RandomModel(seed)
    n, h, w, c = r.image()
    q = r.quantization()
    pads = np.array([[0, 0], [r.int(0, 3), r.int(0, 3)], [r.int(0, 3), r.int(0, 3)], [0, 0]], np.int32)
    x, y = r.tensor("x", (n, h, w, c), q), r.tensor("y", (n, h + pads[1].sum(), w + pads[2].sum(), c), q)
    operator = r.builder.operator(OP.PAD, [x, r.builder.tensor("pads", (4, 2), "int32", pads)], [y])
    operator.builtinOptionsType, operator.builtinOptions = OPTIONS.PadOptions, schema.PadOptionsT()
    return r.finish([x], y, [(n, h, w, c)])


def reshape(seed: int) -> Example:
    r = RandomModel(seed)
    n, h, w, c = r.image()
    q = r.quantization()
    shape = np.array([(n, h * w, c), (n, h * w * c), (-1, c), (n, w, h, c)][r.int(0, 3)], np.int32)
    resolved = tuple(int(v) if v > 0 else n * h * w for v in shape)
    x, y = r.tensor("x", (n, h, w, c), q), r.tensor("y", resolved, q)
    operator = r.builder.operator(OP.RESHAPE, [x, r.builder.tensor("shape", shape.shape, "int32", shape)], [y])
    operator.builtinOptionsType, operator.builtinOptions = OPTIONS.ReshapeOptions, schema.ReshapeOptionsT()
    operator.builtinOptions.newShape = shape
    return r.finish([x], y, [(n, h, w, c)])


def concatenation(seed: int) -> Example:
    r = RandomModel(seed)
    n, h, w, _ = r.image()
    q = r.quantization()
    channels = [r.int(1, 40) for _ in range(r.int(2, 4))]
    shapes: list[tuple[int, ...]] = [(n, h, w, c) for c in channels]
    inputs = [r.tensor(f"x{i}", shape, q) for i, shape in enumerate(shapes)]
    y = r.tensor("y", (n, h, w, sum(channels)), q)
    options = schema.ConcatenationOptionsT()
    options.axis = (3, -1)[r.int(0, 1)]
    operator = r.builder.operator(OP.CONCATENATION, inputs, [y])
    operator.builtinOptionsType, operator.builtinOptions = OPTIONS.ConcatenationOptions, options
    return r.finish(inputs, y, shapes)


def _one_code(
    seed: int, code: int, output: tuple[float, int] | None = None, ratio: float = 4.0
) -> tuple[RandomModel, Any]:
    """An operator on single codes, all of which occur; the output's grid, or one up to `ratio` times the input's."""
    r = RandomModel(seed)
    shape = (1, r.int(256, 300))
    x_grid, y_grid = r.quantization(), r.quantization()
    factor = np.float32(coarse(ratio ** r.rng.uniform(-1, 1), r.scale_bits))
    y_grid = (x_grid[0] * factor, y_grid[1]) if output is None else (np.float32(output[0]), np.array([output[1]]))
    x, y = r.tensor("x", shape, x_grid), r.tensor("y", shape, y_grid)
    operator = r.builder.operator(code, [x], [y])
    r.builder.graph.inputs, r.builder.graph.outputs = [x], [y]
    return r, operator


def _every_code(r: RandomModel) -> Example:
    shape = r.builder.graph.tensors[0].shape
    return Example(r.builder.bytes(), [np.resize(np.arange(-128, 128), shape).astype(np.int8)])


def quantize(seed: int) -> Example:
    return _every_code(_one_code(seed, OP.QUANTIZE, ratio=60.0)[0])


def _moved(r: RandomModel, x: int, y: int, shape: tuple[int, ...]) -> None:
    """y is x in another shape: something that the delegate takes, so that a conversion is an end of its partition."""
    size = r.builder.tensor("shape", (len(shape),), "int32", np.array(shape, np.int32))
    r.builder.operator(OP.RESHAPE, [x, size], [y])


def quantize_float(seed: int) -> Example:
    """Ties, numbers out of the codes' range, infinities and NaN among others."""
    r = RandomModel(seed)
    (n, h, w, c), grid = r.image(), r.quantization()
    grid = (np.float32(2.0 ** r.int(-6, 2)), grid[1]) if seed % 2 else grid
    x = r.builder.tensor("x", (n, h, w, c), "float32")
    codes, y = r.tensor("codes", (n, h, w, c), grid), r.tensor("y", (n, h * w, c), grid)
    r.builder.operator(OP.QUANTIZE, [x], [codes])
    _moved(r, codes, y, (n, h * w, c))
    values = (r.rng.integers(-600, 600, n * h * w * c) / 2 * grid[0]).astype(np.float32)
    values[::3] = r.rng.normal(0, 80, len(values[::3])) * grid[0]
    values[:7] = np.float32([np.inf, -np.inf, np.nan, 3e38, -3e38, -0.0, 1e-45])[: len(values)]
    return Example(r.finish([x], y, []).content, [values.reshape(n, h, w, c)])


def dequantize(seed: int) -> Example:
    r = RandomModel(seed)
    (n, h, w, c), grid = r.image(), r.quantization()
    x, codes = r.tensor("x", (n, h, w, c), grid), r.tensor("codes", (n, h * w, c), grid)
    y = r.builder.tensor("y", (n, h * w, c), "float32")
    _moved(r, x, codes, (n, h * w, c))
    r.builder.operator(OP.DEQUANTIZE, [codes], [y])
    return r.finish([x], y, [(n, h, w, c)])


def tanh(seed: int) -> Example:
    return _every_code(_one_code(seed, OP.TANH, (1 / 128, 0))[0])


def logistic(seed: int) -> Example:
    return _every_code(_one_code(seed, OP.LOGISTIC, (1 / 256, -128))[0])


def relu(seed: int) -> Example:
    return _every_code(_one_code(seed, OP.RELU)[0])


def relu6(seed: int) -> Example:
    return _every_code(_one_code(seed, OP.RELU6)[0])


def hard_swish(seed: int) -> Example:
    return _every_code(_one_code(seed, OP.HARD_SWISH)[0])


def leaky_relu(seed: int) -> Example:
    r, operator = _one_code(seed, OP.LEAKY_RELU)
    operator.builtinOptionsType, operator.builtinOptions = OPTIONS.LeakyReluOptions, schema.LeakyReluOptionsT()
    operator.builtinOptions.alpha = float(r.rng.uniform(0.05, 1.5)) * (-1) ** r.int(0, 1)
    return _every_code(r)


def square(seed: int) -> Example:
    r, operator = _one_code(seed, OP.MUL)
    operator.inputs = [0, 0]
    operator.builtinOptionsType, operator.builtinOptions = OPTIONS.MulOptions, schema.MulOptionsT()
    return _every_code(r)


def _gated(r: RandomModel, gate: int) -> Example:
    """Tensor 0 times a function of it becomes tensor 1."""
    multiply = r.builder.operator(OP.MUL, [0, gate], [1])
    multiply.builtinOptionsType, multiply.builtinOptions = OPTIONS.MulOptions, schema.MulOptionsT()
    r.builder.graph.tensors[1].quantization.scale = r.builder.graph.tensors[0].quantization.scale
    return _every_code(r)


def swish(seed: int) -> Example:
    """x * sigmoid(x), which the delegate makes a table of."""
    r, operator = _one_code(seed, OP.LOGISTIC)
    gate = r.tensor("gate", tuple(r.builder.graph.tensors[0].shape), (np.float32(1 / 256), np.array([-128])))
    operator.outputs = [gate]
    return _gated(r, gate)


def hard_swish_of_operators(seed: int) -> Example:
    """x * relu6(x + 3), in additions and multiplications of numbers."""
    r, operator = _one_code(seed, OP.ADD)
    shape = tuple(r.builder.graph.tensors[0].shape)
    three = r.builder.tensor("three", (), data=np.array(127, np.int8), scale=np.float32(3 / 127))
    gate = r.tensor("gate", shape, (np.float32(6 / 255), np.array([-128])))
    operator.inputs, operator.outputs = [0, three][:: (-1) ** seed], [gate]
    operator.builtinOptionsType, operator.builtinOptions = OPTIONS.AddOptions, schema.AddOptionsT()
    operator.builtinOptions.fusedActivationFunction = 3
    return _gated(r, gate)


def table(seed: int) -> Example:
    """CAST, CAST, GATHER, as keras_dbq.export writes a function of one number."""
    r, operator = _one_code(seed, OP.CAST)
    b, (x, y) = r.builder, (0, 1)
    shape = tuple(b.graph.tensors[x].shape)
    unsigned, index = b.tensor("unsigned", shape, "uint8"), b.tensor("index", shape, "int32")
    operator.outputs = [unsigned]
    second = b.operator(OP.CAST, [unsigned], [index])
    for cast in (operator, second):
        cast.builtinOptionsType, cast.builtinOptions = OPTIONS.CastOptions, schema.CastOptionsT()
    codes = r.rng.integers(-128, 128, 256).astype(np.int8)
    gather = b.operator(OP.GATHER, [b.tensor("table", (256,), data=codes, scale=np.float32(0.1)), index], [y])
    gather.builtinOptionsType, gather.builtinOptions = OPTIONS.GatherOptions, schema.GatherOptionsT()
    return _every_code(r)


def _resize(seed: int, code: int, kind: int, options: Any) -> Example:
    r = RandomModel(seed)
    n, h, w, c = r.image()
    q, size = r.quantization(), np.array([r.int(1, 20), r.int(1, 20)], np.int32)
    x, y = r.tensor("x", (n, h, w, c), q), r.tensor("y", (n, *size, c), q)
    options.alignCorners, options.halfPixelCenters = [(False, False), (True, False), (False, True)][seed % 3]
    operator = r.builder.operator(code, [x, r.builder.tensor("size", (2,), "int32", size)], [y])
    operator.builtinOptionsType, operator.builtinOptions = kind, options
    return r.finish([x], y, [(n, h, w, c)])


def resize_bilinear(seed: int) -> Example:
    return _resize(seed, OP.RESIZE_BILINEAR, OPTIONS.ResizeBilinearOptions, schema.ResizeBilinearOptionsT())


def resize_nearest(seed: int) -> Example:
    kind = OPTIONS.ResizeNearestNeighborOptions
    return _resize(seed, OP.RESIZE_NEAREST_NEIGHBOR, kind, schema.ResizeNearestNeighborOptionsT())


EXAMPLES: dict[str, Callable[[int], Example]] = {
    f.__name__: f
    for f in (
        convolution,
        grouped,
        depthwise,
        fully_connected,
        add,
        mul,
        mean,
        average_pool,
        max_pool,
        pad,
        reshape,
        concatenation,
        quantize,
        quantize_float,
        dequantize,
        tanh,
        logistic,
        relu,
        relu6,
        leaky_relu,
        hard_swish,
        square,
        swish,
        hard_swish_of_operators,
        table,
        resize_bilinear,
        resize_nearest,
    )
}
