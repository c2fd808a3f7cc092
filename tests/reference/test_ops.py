"""Every operator on random codes: the engine gives exactly what the stock interpreter gives, in both roundings."""

import numpy as np
import pytest

from keras_dbq.reference import Engine
from tests.reference.tflite_builder import Builder, assert_same_codes, interpret, options

BOTH = pytest.mark.parametrize("rounding", ["xnnpack", "builtin"])
SEEDS = pytest.mark.parametrize("seed", range(4))


def codes(rng, shape):
    return rng.integers(-128, 128, shape, dtype=np.int8)


def log_uniform(rng, low, high, size=None):
    return np.exp(rng.uniform(np.log(low), np.log(high), size)).astype(np.float32)


def compare(model, x, rounding):
    expected, got = interpret(model, x, rounding), Engine(model, rounding).run(x)
    if isinstance(expected, list):
        for e, g in zip(expected, got, strict=True):
            assert_same_codes(e, g)
    else:
        assert_same_codes(expected, got)


def quantized(b, rng, shape, **named):
    return b.tensor(shape, np.int8, log_uniform(rng, 0.01, 0.1), int(rng.integers(-128, 128)), **named)


def spread(rng, accumulator_std, x_scale):
    """Weight scale and output scale with which the accumulator fills the int8 range."""
    w_scale = log_uniform(rng, 0.001, 0.1)
    return w_scale, np.float32(x_scale * w_scale * accumulator_std / 45)


# kernel, stride, dilation, padding (0 SAME, 1 VALID), activation (0 none, 1 relu, 3 relu6)
GEOMETRIES = [
    ((1, 1), (1, 1), (1, 1), 0, 0),
    ((1, 1), (2, 2), (1, 1), 1, 3),
    ((3, 3), (1, 1), (1, 1), 0, 1),
    ((3, 3), (2, 2), (1, 1), 0, 3),
    ((3, 3), (2, 1), (1, 1), 1, 0),
    ((3, 3), (1, 1), (2, 2), 0, 3),
    ((5, 3), (1, 2), (1, 1), 0, 2),
    ((2, 4), (3, 2), (1, 1), 0, 0),
    ((7, 7), (2, 2), (1, 1), 0, 1),
]


@BOTH
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("per_channel", [True, False])
def test_conv_2d(geometry, per_channel, rounding):
    kernel, stride, dilation, padding, activation = geometry
    rng = np.random.default_rng(hash((kernel, stride, padding, per_channel)) % 2**32)
    m, c = 19, int(rng.integers(1, 40))
    x_scale, x_zero = log_uniform(rng, 0.01, 0.1), int(rng.integers(-128, 128))
    w = rng.integers(-127, 128, (m, *kernel, c), dtype=np.int8)
    w_scale, y_scale = spread(rng, 127 * 73 * np.sqrt(w[0].size), x_scale)
    scales = w_scale * rng.uniform(0.5, 1.5, m if per_channel else 1).astype(np.float32)
    b = Builder()
    x = b.tensor((1, 11, 14, c), np.int8, x_scale, x_zero)
    bias = b.constant(rng.integers(-20000, 20000, m, dtype=np.int32), scales * x_scale)
    y = b.tensor((1, 1, 1, m), np.int8, y_scale, int(rng.integers(-128, 128)))
    o = options(
        "Conv2DOptions", padding=padding, strideH=stride[0], strideW=stride[1], dilationHFactor=dilation[0],
        dilationWFactor=dilation[1], fusedActivationFunction=activation,
    )  # fmt: skip
    b.op("CONV_2D", [x, b.constant(w, scales), bias], [y], o, version=3)
    compare(b.finish([x], [y]), codes(rng, (3, 11, 14, c)), rounding)


@BOTH
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("multiplier", [1, 3])
def test_depthwise_conv_2d(geometry, multiplier, rounding):
    kernel, stride, dilation, padding, activation = geometry
    rng = np.random.default_rng(hash((kernel, stride, padding, multiplier)) % 2**32)
    c = int(rng.integers(1, 40))
    m = c * multiplier
    x_scale, x_zero = log_uniform(rng, 0.01, 0.1), int(rng.integers(-128, 128))
    w = rng.integers(-127, 128, (1, *kernel, m), dtype=np.int8)
    w_scale, y_scale = spread(rng, 127 * 73 * np.sqrt(kernel[0] * kernel[1]), x_scale)
    scales = w_scale * rng.uniform(0.5, 1.5, m).astype(np.float32)
    b = Builder()
    x = b.tensor((1, 11, 14, c), np.int8, x_scale, x_zero)
    bias = b.constant(rng.integers(-5000, 5000, m, dtype=np.int32), scales * x_scale)
    y = b.tensor((1, 1, 1, m), np.int8, y_scale, int(rng.integers(-128, 128)))
    o = options(
        "DepthwiseConv2DOptions", padding=padding, strideH=stride[0], strideW=stride[1], dilationHFactor=dilation[0],
        dilationWFactor=dilation[1], fusedActivationFunction=activation, depthMultiplier=multiplier,
    )  # fmt: skip
    b.op("DEPTHWISE_CONV_2D", [x, b.constant(w, scales, axis=3), bias], [y], o, version=3)
    compare(b.finish([x], [y]), codes(rng, (3, 11, 14, c)), rounding)


@BOTH
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("keep_num_dims", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
def test_fully_connected(per_channel, keep_num_dims, with_bias, rounding):
    rng = np.random.default_rng(per_channel + 2 * keep_num_dims + 4 * with_bias)
    m, k = 37, 150
    x_scale, x_zero = log_uniform(rng, 0.01, 0.1), int(rng.integers(-128, 128))
    w = rng.integers(-127, 128, (m, k), dtype=np.int8)
    w_scale, y_scale = spread(rng, 127 * 73 * np.sqrt(k), x_scale)
    scales = w_scale * rng.uniform(0.5, 1.5, m if per_channel else 1).astype(np.float32)
    b = Builder()
    x = b.tensor((1, 6, k), np.int8, x_scale, x_zero)
    bias = b.constant(rng.integers(-20000, 20000, m, dtype=np.int32), scales * x_scale)
    y = b.tensor((1, 6, m) if keep_num_dims else (6, m), np.int8, y_scale, int(rng.integers(-128, 128)))
    o = options("FullyConnectedOptions", keepNumDims=keep_num_dims, fusedActivationFunction=1)
    b.op("FULLY_CONNECTED", [x, b.constant(w, scales), bias if with_bias else -1], [y], o, version=12)
    compare(b.finish([x], [y]), codes(rng, (5, 6, k)), rounding)


@BOTH
@SEEDS
@pytest.mark.parametrize("name", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("other", ["same", "channel", "scalar", "pixel", "constant"])
def test_add_sub_mul(name, other, seed, rounding):
    rng = np.random.default_rng(100 * seed + len(other))
    shape = (1, 5, 7, 19)
    shapes = {"same": shape, "channel": (1, 1, 1, 19), "scalar": (1, 1, 1, 1), "pixel": (1, 5, 7, 1), "constant": (19,)}
    s1, s2 = log_uniform(rng, 0.01, 0.1, 2)
    y_scale = s1 * s2 * 40 if name == "MUL" else np.hypot(s1, s2)
    y_scale = np.float32(y_scale * rng.uniform(0.5, 2))
    b = Builder()
    x = b.tensor(shape, np.int8, s1, int(rng.integers(-128, 128)))
    zero = int(rng.integers(-128, 128))
    constant = other == "constant"
    second = b.constant(codes(rng, (19,)), s2, zero) if constant else b.tensor(shapes[other], np.int8, s2, zero)
    y = b.tensor(shape, np.int8, y_scale, int(rng.integers(-128, 128)))
    o = options(f"{name.capitalize()}Options", fusedActivationFunction=[0, 1, 3, 2][seed])
    b.op(name, [x, second] if seed % 2 else [second, x], [y], o, version=2)
    given = [codes(rng, (3, *shape[1:]))] + ([] if constant else [codes(rng, (3, *shapes[other][1:]))])
    compare(b.finish([x] if constant else [x, second], [y]), given if len(given) > 1 else given[0], rounding)


@BOTH
@pytest.mark.parametrize("name", ["ADD", "MUL"])
def test_a_tensor_with_itself(name, rounding):
    rng = np.random.default_rng(3)
    b = Builder()
    x = b.tensor((1, 300), np.int8, 0.03, -11)
    y = b.tensor((1, 300), np.int8, 0.06, 5)
    b.op(name, [x, x], [y], options(f"{name.capitalize()}Options"), version=2)
    compare(b.finish([x], [y]), codes(rng, (4, 300)), rounding)


@BOTH
@pytest.mark.parametrize("ratio", [2.0**-12, 2.0**-9, 100.0])
def test_add_outside_the_limits_of_xnnpack(ratio, rounding):
    rng = np.random.default_rng(5)
    b = Builder()
    x, z = b.tensor((1, 300), np.int8, 0.05, 3), b.tensor((1, 300), np.int8, np.float32(0.05 * ratio), -3)
    y = b.tensor((1, 300), np.int8, np.float32(0.06 * max(ratio, 1)), 1)
    b.op("ADD", [x, z], [y], options("AddOptions"), version=2)
    compare(b.finish([x, z], [y]), [codes(rng, (4, 300)), codes(rng, (4, 300))], rounding)


@BOTH
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("kernel,stride", [((2, 2), (2, 2)), ((3, 3), (2, 1)), ((6, 7), (1, 1)), ((1, 1), (2, 2))])
@pytest.mark.parametrize("name", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
def test_pooling(name, kernel, stride, padding, rounding):
    rng = np.random.default_rng(7)
    b = Builder()
    x = b.tensor((1, 9, 12, 21), np.int8, 0.05, -7)
    y = b.tensor((1, 1, 1, 21), np.int8, 0.05, -7)
    o = options(
        "Pool2DOptions", padding=padding, filterHeight=kernel[0], filterWidth=kernel[1], strideH=stride[0],
        strideW=stride[1], fusedActivationFunction=3,
    )  # fmt: skip
    b.op(name, [x], [y], o, version=2)
    compare(b.finish([x], [y]), codes(rng, (3, 9, 12, 21)), rounding)


@BOTH
@pytest.mark.parametrize("shape", [(1, 5, 7, 19), (1, 1, 1, 19), (1, 5, 7, 1)])
@pytest.mark.parametrize("name", ["MAXIMUM", "MINIMUM"])
def test_maximum_and_minimum(name, shape, rounding):
    rng = np.random.default_rng(len(name) + shape[3])
    b = Builder()
    x, z, y = (b.tensor(s, np.int8, 0.05, -7) for s in ((1, 5, 7, 19), shape, (1, 5, 7, 19)))
    b.op(name, [x, z], [y], options("MaximumMinimumOptions"), version=2)
    compare(b.finish([x, z], [y]), [codes(rng, (3, 5, 7, 19)), codes(rng, (3, *shape[1:]))], rounding)


def test_maximum_of_two_grids_is_refused():
    b = Builder()
    x, z, y = b.tensor((1, 4), np.int8, 0.05, 3), b.tensor((1, 4), np.int8, 0.04, 3), b.tensor((1, 4), np.int8, 0.05, 3)
    b.op("MAXIMUM", [x, z], [y], options("MaximumMinimumOptions"), version=2)
    given = [np.zeros((1, 4), np.int8)] * 2
    with pytest.raises(ValueError, match=r"operator 0 \(MAXIMUM\): input 't1': expected the output's scale 0.05"):
        Engine(b.finish([x, z], [y])).run(given)


@BOTH
@pytest.mark.parametrize("keep_dims", [True, False])
@pytest.mark.parametrize("axes", [(1, 2), (3,), (-1, -2)])
@pytest.mark.parametrize("name", ["REDUCE_MAX", "REDUCE_MIN"])
def test_reduce_max_and_min(name, axes, keep_dims, rounding):
    rng = np.random.default_rng(8)
    b = Builder()
    x, y = b.tensor((1, 7, 6, 45), np.int8, 0.05, -7), b.tensor((1,), np.int8, 0.05, -7)
    axis = b.constant(np.array(axes, np.int32))
    b.op(name, [x, axis], [y], options("ReducerOptions", keepDims=keep_dims), version=2)
    compare(b.finish([x], [y]), codes(rng, (3, 7, 6, 45)), rounding)


@BOTH
@SEEDS
@pytest.mark.parametrize("keep_dims", [True, False])
@pytest.mark.parametrize("axes", [(1, 2), (2, 1), (3,), (1,), (-1, -2), (1, 2, 3)])
def test_mean(axes, keep_dims, seed, rounding):
    rng = np.random.default_rng(seed)
    b = Builder()
    x = quantized(b, rng, (1, 7, 7, 45))
    y = b.tensor((1,), np.int8, log_uniform(rng, 0.005, 0.05), int(rng.integers(-128, 128)))
    axis = b.constant(np.array(axes, np.int32))
    b.op("MEAN", [x, axis], [y], options("ReducerOptions", keepDims=keep_dims), version=2)
    compare(b.finish([x], [y]), codes(rng, (4, 7, 7, 45)), rounding)


UNARY = ["SOFTMAX", "LOGISTIC", "TANH", "HARD_SWISH", "LEAKY_RELU", "RELU", "RELU6", "RELU_N1_TO_1", "QUANTIZE"]
UNARY_OPTIONS = {"SOFTMAX": ("SoftmaxOptions", {"beta": 1.0}), "LEAKY_RELU": ("LeakyReluOptions", {"alpha": 0.3})}


@BOTH
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", UNARY)
def test_unary(name, seed, rounding):
    rng = np.random.default_rng(seed)
    b = Builder()
    x = b.tensor((1, 3, 259), np.int8, log_uniform(rng, 0.005, 0.3), int(rng.integers(-128, 128)))
    scale, zero = log_uniform(rng, 0.01, 0.1), int(rng.integers(-128, 128))
    if name in ("SOFTMAX", "LOGISTIC"):
        scale, zero = 1 / 256, -128
    if name == "TANH":
        scale, zero = 1 / 128, 0
    y = b.tensor((1, 3, 259), np.int8, scale, zero)
    o = options(UNARY_OPTIONS[name][0], **UNARY_OPTIONS[name][1]) if name in UNARY_OPTIONS else None
    b.op(name, [x], [y], o, version=1 if name in ("HARD_SWISH", "RELU_N1_TO_1") else 2)
    model = b.finish([x], [y])
    every_code = np.tile(np.arange(-128, 128, dtype=np.int8), 4)[: 3 * 259].reshape(1, 3, 259)
    compare(model, np.concatenate([every_code, codes(rng, (3, 3, 259))]), rounding)


@BOTH
@pytest.mark.parametrize("alpha", [-0.2, 1e-4, 1.5])
def test_leaky_relu_slopes(alpha, rounding):
    rng = np.random.default_rng(0)
    b = Builder()
    x, y = b.tensor((1, 300), np.int8, 0.04, 10), b.tensor((1, 300), np.int8, 0.05, -20)
    b.op("LEAKY_RELU", [x], [y], options("LeakyReluOptions", alpha=alpha), version=2)
    compare(b.finish([x], [y]), codes(rng, (2, 300)), rounding)


@BOTH
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_float_edges(dtype, rounding):
    """QUANTIZE, then DEQUANTIZE: real values in and out, with exact ties among them."""
    rng = np.random.default_rng(1)
    b = Builder()
    x = b.tensor((1, 400), np.float32)
    q = b.tensor((1, 400), dtype, 0.0373, 7)
    y = b.tensor((1, 400), np.float32)
    b.op("QUANTIZE", [x], [q])
    b.op("DEQUANTIZE", [q], [y], version=2)
    values = rng.normal(0, 3, (3, 400)).astype(np.float32)
    values[0, :200] = (np.arange(200) - 100.5) * np.float32(0.0373)
    model = b.finish([x], [y])
    assert np.array_equal(interpret(model, values, rounding), Engine(model, rounding).run(values))


@BOTH
@pytest.mark.parametrize("source,target", [(np.uint8, np.int8), (np.int8, np.uint8), (np.uint8, np.uint8)])
@pytest.mark.parametrize("same_scale", [True, False])
def test_requantize_between_types(source, target, same_scale, rounding):
    rng = np.random.default_rng(2)
    b = Builder()
    zero = {np.dtype(np.uint8): 130, np.dtype(np.int8): 2}
    x = b.tensor((1, 300), source, 0.04, zero[np.dtype(source)])
    y = b.tensor((1, 300), target, 0.04 if same_scale else 0.0531, zero[np.dtype(target)])
    b.op("QUANTIZE", [x], [y], version=2)
    info = np.iinfo(source)
    compare(b.finish([x], [y]), rng.integers(info.min, info.max + 1, (3, 300), dtype=source), rounding)


def shape_case(name):
    """(file, input shape) for one operator that only moves codes."""
    b = Builder()
    x = b.tensor((1, 6, 8, 12), np.int8, 0.1, 5)
    made = {"scale": 0.1, "zero_point": 5}
    ints = lambda *v: b.constant(np.array(v, np.int32))  # noqa: E731
    if name == "SPLIT":
        parts = [b.tensor((1, 6, 8, 6), **made) for _ in range(2)]
        b.op("SPLIT", [b.constant(np.array(3, np.int32)), x], parts, options("SplitOptions", numSplits=2), version=2)
        return b.finish([x], parts)
    if name == "SPLIT_V":
        parts = [b.tensor((1, 6, 8, s), **made) for s in (4, 8)]
        b.op(
            "SPLIT_V",
            [x, ints(4, -1), b.constant(np.array(3, np.int32))],
            parts,
            options("SplitVOptions", numSplits=2),
            2,
        )
        return b.finish([x], parts)
    y = b.tensor((1, 4, 6, 5) if name == "SLICE" else (1, 1, 1, 1), **made)
    cases = {
        "PAD": ([x, b.constant(np.array([[0, 0], [1, 2], [0, 3], [2, 0]], np.int32))], options("PadOptions")),
        "PADV2": (
            [
                x,
                b.constant(np.array([[0, 0], [1, 2], [0, 3], [2, 0]], np.int32)),
                b.constant(np.array(-77, np.int8), **made),
            ],
            options("PadV2Options"),
        ),
        "MIRROR_PAD": (
            [x, b.constant(np.array([[0, 0], [1, 2], [0, 3], [0, 0]], np.int32))],
            options("MirrorPadOptions"),
        ),
        "RESHAPE": ([x, ints(-1, 48, 12)], options("ReshapeOptions", newShape=[-1, 48, 12])),
        "EXPAND_DIMS": ([x, ints(1)], options("ExpandDimsOptions")),
        "CONCATENATION": ([x, x, x], options("ConcatenationOptions", axis=3)),
        "TRANSPOSE": ([x, ints(0, 2, 3, 1)], options("TransposeOptions")),
        "SLICE": ([x, ints(0, 1, 2, 3), ints(1, 4, -1, 5)], options("SliceOptions")),
        "STRIDED_SLICE": (
            [x, ints(0, 1, 0, -2), ints(0, 6, 0, -12), ints(1, 2, 3, -3)],
            options("StridedSliceOptions", beginMask=5, endMask=5),
        ),
        "GATHER": ([x, ints(3, 1, 1, 11)], options("GatherOptions", axis=3)),
        "RESIZE_NEAREST_NEIGHBOR": ([x, ints(9, 20)], options("ResizeNearestNeighborOptions")),
    }
    inputs, chosen = cases[name]
    b.op(name, inputs, [y], chosen, version=1 if name in ("RESHAPE", "EXPAND_DIMS") else 2)
    return b.finish([x], [y])


MOVERS = [
    "PAD",
    "PADV2",
    "MIRROR_PAD",
    "RESHAPE",
    "EXPAND_DIMS",
    "CONCATENATION",
    "TRANSPOSE",
    "SLICE",
    "STRIDED_SLICE",
]
MOVERS += ["GATHER", "RESIZE_NEAREST_NEIGHBOR", "SPLIT", "SPLIT_V"]


@BOTH
@pytest.mark.parametrize("name", MOVERS)
def test_operators_that_move_codes(name, rounding):
    rng = np.random.default_rng(4)
    compare(shape_case(name), codes(rng, (3, 6, 8, 12)), rounding)


@BOTH
@pytest.mark.parametrize("align,half", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("size", [(7, 5), (13, 31), (1, 40), (96, 96)])
def test_resize_nearest_neighbor(align, half, size, rounding):
    rng = np.random.default_rng(6)
    b = Builder()
    x, y = b.tensor((1, 6, 17, 3), np.int8, 0.1, 5), b.tensor((1, *size, 3), np.int8, 0.1, 5)
    o = options("ResizeNearestNeighborOptions", alignCorners=align, halfPixelCenters=half)
    b.op(
        "RESIZE_NEAREST_NEIGHBOR", [x, b.constant(np.array(size, np.int32))], [y], o, version=4 if align or half else 2
    )
    compare(b.finish([x], [y]), codes(rng, (2, 6, 17, 3)), rounding)


@BOTH
def test_squeeze(rounding):
    rng = np.random.default_rng(8)
    b = Builder()
    x, y = b.tensor((1, 1, 1, 12), np.int8, 0.1, 5), b.tensor((1, 12), np.int8, 0.1, 5)
    b.op("SQUEEZE", [x], [y], options("SqueezeOptions", squeezeDims=[1, 2]))
    compare(b.finish([x], [y]), codes(rng, (3, 1, 1, 12)), rounding)
