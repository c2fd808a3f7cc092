"""A layer and the table behind it as one operator: the same codes for every sum, and the way back."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.reference import Engine
from keras_dbq.runtime.interpreter import Interpreter
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite import metadata, thresholds
from keras_dbq.tflite.params import Params
from tests.reference.tflite_builder import Builder, interpret, options
from tests.tflite.cases import operators

CHANNELS, INPUTS = 6, 20
LENGTH = 9 * INPUTS
ENDS = np.array([-(2**31), -(2**31) + 1, -1, 0, 1, 2**31 - 2, 2**31 - 1])


def layer(rng, activation=0):
    """(scales, bias, params) of a random layer whose sums fill int8."""
    weights = rng.uniform(0.5, 2, CHANNELS) * 10.0 ** rng.integers(-2, 1, CHANNELS)
    scales = np.concatenate([[0.04, 0.03 * 70 * np.sqrt(LENGTH)], weights]).astype(np.float32)
    bias = rng.integers(-9000, 9000, CHANNELS).astype(np.int32)
    zero_point = int(rng.integers(-128, 128))
    params = Params(1, 1, 3, 3, INPUTS, CHANNELS, 1, 1, 1, 1, 0, activation, 0, -3, zero_point, 0)
    return scales, bias, params


def rising(rng, steps, jumps=0):
    """int8 [256] by the code modulo 256: `steps` steps, `jumps` of them together with another."""
    at = np.sort(rng.choice(np.arange(-100, 100), steps, replace=False))
    at[1 : 1 + jumps] = at[0]
    lowest = int(rng.integers(-128, 128 - steps))
    return np.roll((lowest + (np.arange(-128, 128)[:, None] >= at).sum(1)).astype(np.int8), 128)


def requantized(acc, scales, params):
    """docs/packing.md, "Result", written out; acc: int64 [..., M]."""
    multiplier = (scales[0] * scales[2:]).astype(np.float32) / scales[1]
    code = params.output_zero_point + np.rint(acc.astype(np.float32) * multiplier).astype(np.float64)
    low = {0: -128, 1: params.output_zero_point}[params.activation]
    return np.clip(code, low, 127).astype(np.int64)


@pytest.mark.parametrize("activation", [0, 1])
@pytest.mark.parametrize("seed", range(12))
def test_counting_gives_the_code_of_the_table_for_every_sum(seed, activation):
    rng = np.random.default_rng(seed)
    scales, bias, params = layer(rng, activation)
    codes = rising(rng, steps=int(rng.integers(1, 16)), jumps=seed % 2)
    found = thresholds.count_thresholds(codes, scales, bias, params, LENGTH)
    if found is None:  # all steps lie below the ReLU's zero
        assert activation == 1 and len(set(codes[np.arange(params.output_zero_point, 128) % 256])) == 1
        return
    rows, lowest = found
    near = rows.astype(np.int64)[:, None] + np.arange(-2, 3)[:, None]
    acc = np.concatenate([np.clip(near.reshape(-1, CHANNELS), ENDS[0], ENDS[-1]),
                          np.broadcast_to(ENDS[:, None], (len(ENDS), CHANNELS)),
                          rng.integers(-(10**7), 10**7, (2000, CHANNELS))])  # fmt: skip
    acc = acc[(acc < thresholds.NEVER).all(1)]
    counted = lowest + (acc >= rows[:, None]).sum(0)
    np.testing.assert_array_equal(counted, codes[requantized(acc, scales, params) % 256])
    assert (np.diff(rows.astype(np.int64), axis=0) >= 0).all()
    back = thresholds.table_of(rows, lowest, scales, params)
    np.testing.assert_array_equal(back[requantized(acc, scales, params) % 256], counted)


def test_steps_that_no_sum_and_every_sum_takes():
    scales = np.array([1, 1, 2.0**-33, 1], np.float32)
    params = Params(1, 1, 3, 3, INPUTS, 2, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0)
    codes = np.where(np.arange(256) < 128, np.int8(1), np.int8(0)).astype(np.int8)  # 1 from code 0 on
    rows, _ = thresholds.count_thresholds(codes, scales, np.zeros(2, np.int32), params, LENGTH)
    assert rows[0, 0] == thresholds.ALWAYS and rows[0, 1] == 0  # -2^31 * 2^-33 rounds to code 0, -0.5 likewise
    codes = np.roll((np.arange(-128, 128) >= 1).astype(np.int8), 128)
    rows, _ = thresholds.count_thresholds(codes, scales, np.zeros(2, np.int32), params, LENGTH)
    assert rows[0, 0] == thresholds.NEVER and rows[0, 1] == 1


@pytest.mark.parametrize(
    "codes, why",
    [
        (-np.arange(-128, 128) // 40, "it falls"),
        (np.zeros(256), "it has no step"),
        (np.arange(-128, 128) // 15, "it has more than 15 steps"),
    ],
)
def test_other_tables_stay_tables(codes, why):
    scales, bias, params = layer(np.random.default_rng(0))
    codes = np.roll(codes.astype(np.int8), 128)
    assert thresholds.count_thresholds(codes, scales, bias, params, LENGTH) is None, why


def test_a_sum_that_could_mean_never_stays_scaled():
    rng = np.random.default_rng(0)
    scales, bias, params = layer(rng)
    room = 2**31 - 1 - LENGTH * 127 * 255
    codes = rising(rng, 3)
    for largest, fits in ((room - 1, True), (room, False)):
        bias[0] = -largest
        assert (thresholds.count_thresholds(codes, scales, bias, params, LENGTH) is not None) == fits


def test_thresholds_of_no_table():
    scales, bias, params = layer(np.random.default_rng(0))
    rows = np.zeros((1, CHANNELS), np.int32)
    rows[0, 0] = 10**6
    with pytest.raises(ValueError, match="thresholds: expected those of one table .* no int8 file computes that"):
        thresholds.table_of(rows, 0, scales, params)


class File:
    """A ternary layer and a table of few codes behind it."""

    def __init__(self, kind="CONV_2D", seed=0):
        rng = np.random.default_rng(seed)
        self.kind = kind
        lowest, at = int(rng.integers(-128, 124)), np.sort(rng.integers(-40, 41, 3))
        self.codes = np.roll((lowest + (np.arange(-128, 128)[:, None] >= at).sum(1)).astype(np.int8), 128)
        shape = {"CONV_2D": (CHANNELS, 3, 3, INPUTS), "FULLY_CONNECTED": (CHANNELS, INPUTS),
                 "DEPTHWISE_CONV_2D": (1, 3, 3, INPUTS)}[kind]  # fmt: skip
        self.weights = (127 * rng.integers(-1, 2, shape)).astype(np.int8)
        self.channels = shape[-1] if kind == "DEPTHWISE_CONV_2D" else shape[0]
        count = self.weights.size // self.channels
        self.scale = np.float32(0.04 * 0.01 * 74 * np.sqrt(count) * 127 / 60)
        self.w_scale = rng.uniform(0.005, 0.015, self.channels).astype(np.float32)
        self.bias = rng.integers(-9000, 9000, self.channels).astype(np.int32)
        x_shape = (20, INPUTS) if kind == "FULLY_CONNECTED" else (2, 6, 7, INPUTS)
        self.x = rng.integers(-128, 128, x_shape).astype(np.int8)

    def data(self, also=()):
        """also: "output" (the tensor before the table is one, too), "reader" (something else reads it)."""
        b, rank = Builder(), self.x.ndim
        x = b.tensor((1, *self.x.shape[1:]), np.int8, np.float32(0.04), -3)
        shape = (1, *self.x.shape[1:-1], self.channels)
        y = b.tensor(shape, np.int8, self.scale, 5)
        unsigned, index = b.tensor(shape, np.uint8), b.tensor(shape, np.int32)
        z = b.tensor(shape, np.int8, np.float32(0.5), 124)
        w = b.constant(self.weights, self.w_scale, axis=3 if self.kind == "DEPTHWISE_CONV_2D" else 0)
        bias = b.constant(self.bias, self.w_scale * np.float32(0.04))
        chosen = {
            "CONV_2D": ("Conv2DOptions", {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}),
            "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", {"strideH": 1, "strideW": 1, "dilationHFactor": 1,
                                                             "dilationWFactor": 1, "depthMultiplier": 1}),
            "FULLY_CONNECTED": ("FullyConnectedOptions", {}),
        }[self.kind]  # fmt: skip
        b.op(self.kind, [x, w, bias], [y], options(chosen[0], **chosen[1]), 5 if rank == 2 else 3)
        b.op("CAST", [y], [unsigned], options("CastOptions"), 1)
        b.op("CAST", [unsigned], [index], options("CastOptions"), 1)
        b.op("GATHER", [b.constant(self.codes, np.float32(0.5), 124), index], [z], options("GatherOptions"), 2)
        ends = [z]
        if "reader" in also:
            ends.append(b.tensor(shape, np.int8, self.scale, 5))
            b.op("MAXIMUM", [y, y], [ends[-1]], options("MaximumMinimumOptions"), 2)
        return b.finish([x], ends + [y] * ("output" in also))


@pytest.mark.parametrize("kind", ["CONV_2D", "FULLY_CONNECTED"])
@pytest.mark.parametrize("seed", range(4))
def test_a_file_with_a_table_packs_and_unpacks(kind, seed):
    file = File(kind, seed)
    source = file.data()
    report = keras_dbq.pack_tflite(source, strict=True)
    assert operators(report.data) == [{"CONV_2D": "DbqConv2D", "FULLY_CONNECTED": "DbqFullyConnected"}[kind]]
    assert [row.encoding for row in report.layers] == ["packed-1"]
    assert sum(r.bytes_after for r in report.layers) + sum(report.other_after.values()) == len(report.data)
    assert metadata.read(fb.load_model(report.data))["format_version"] == 2
    expected = interpret(source, file.x, "xnnpack")
    assert len(np.unique(expected)) == 4
    twin = keras_dbq.export.unpack_tflite(report.data)
    assert operators(twin) == [kind, "CAST", "CAST", "GATHER"]
    for got in (Interpreter(report.data).predict(file.x), Engine(report.data).run(file.x), Engine(twin).run(file.x),
                interpret(twin, file.x, "xnnpack")):  # fmt: skip
        np.testing.assert_array_equal(got, expected)
    assert keras_dbq.pack_tflite(twin).data == report.data
    assert keras_dbq.pack_tflite(report.data).data == report.data
    assert keras_dbq.verify(None, report.data, file.x.astype(np.float32) * 0.04).passed


@pytest.mark.parametrize("also", ["output", "reader"])
def test_a_tensor_that_something_else_reads_stays(also):
    data = keras_dbq.pack_tflite(File().data(also)).data
    assert operators(data)[:4] == ["DbqConv2D", "CAST", "CAST", "GATHER"]
    assert metadata.read(fb.load_model(data))["format_version"] == 1
    file = File()
    expected, got = interpret(file.data(also), file.x, "xnnpack"), Interpreter(data).predict(file.x)
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_depthwise_layer_keeps_its_table():
    file = File("DEPTHWISE_CONV_2D")
    data = keras_dbq.pack_tflite(file.data()).data
    assert operators(data) == ["DbqDepthwiseConv2D", "CAST", "CAST", "GATHER"]
    np.testing.assert_array_equal(Interpreter(data).predict(file.x), interpret(file.data(), file.x, "xnnpack"))


def test_int8_weights_keep_their_table():
    file = File()
    file.weights = np.random.default_rng(0).integers(-127, 128, file.weights.shape).astype(np.int8)
    assert operators(keras_dbq.pack_tflite(file.data()).data) == ["CONV_2D", "CAST", "CAST", "GATHER"]


def test_tables_can_stay():
    file = File()
    report = keras_dbq.pack_tflite(file.data(), count_thresholds=False)
    assert operators(report.data) == ["DbqConv2D", "CAST", "CAST", "GATHER"]
    assert metadata.read(fb.load_model(report.data))["format_version"] == 1
    np.testing.assert_array_equal(Interpreter(report.data).predict(file.x), interpret(file.data(), file.x, "xnnpack"))
