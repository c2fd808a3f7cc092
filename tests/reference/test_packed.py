"""Packed operators written by hand after docs/packing.md, against the int8 operator that they replace."""

import numpy as np
import pytest

from keras_dbq.reference import Engine
from keras_dbq.reference.packed import decode_trits
from tests.reference.tflite_builder import Builder, assert_same_codes, interpret, options


def encode(trits):
    """Trits [B, count] -> bytes, one trit after another as the format's page says."""
    packed = []
    for plane in trits.reshape(len(trits), -1):
        digits = [int(t) + 1 for t in plane]
        while len(digits) % 5:
            digits.append(1)
        for i in range(0, len(digits), 5):
            d = digits[i : i + 5]
            packed.append(d[0] + 3 * d[1] + 9 * d[2] + 27 * d[3] + 81 * d[4])
    return np.array(packed, np.uint8)


class Layer:
    """One random ternary layer, with its constants in the packed form and as int8 weights."""

    def __init__(self, kind, branches, seed, kernel=(3, 3), stride=(1, 1), dilation=(1, 1), valid=False, activation=0):
        rng = np.random.default_rng(seed)
        self.kind, self.kernel, self.stride, self.dilation = kind, kernel, stride, dilation
        self.valid, self.activation = valid, activation
        self.c, self.multiplier = 7, 2 if kind == "DbqDepthwiseConv2D" else 0
        self.m = self.c * self.multiplier or 11
        if kind == "DbqFullyConnected":
            self.kernel, self.valid, shape = (1, 1), True, (self.m, self.c)
        else:
            shape = (1, *kernel, self.m) if self.multiplier else (self.m, *kernel, self.c)
        trits = rng.integers(-1, 2, (branches, *shape), dtype=np.int8)
        p = rng.integers(64, 128, self.m) if branches == 2 else np.full(self.m, 127)
        self.branch_scales = np.stack([p, 127 - p])[:branches].astype(np.uint8)
        per_channel = (
            (-1,) if self.multiplier or kind != "DbqConv2D" and len(shape) == 4 else (-1,) + (1,) * (len(shape) - 1)
        )
        weights = sum(
            t.astype(int) * s.astype(int).reshape(per_channel) for t, s in zip(trits, self.branch_scales, strict=True)
        )
        self.weights = weights.astype(np.int8)
        self.codes = encode(trits)
        self.x_scale, self.x_zero, self.y_zero = np.float32(0.037), -11, 23
        self.w_scale = rng.uniform(0.001, 0.002, self.m).astype(np.float32)
        count = weights.size // self.m
        self.y_scale = np.float32(self.x_scale * 0.0015 * 80 * 70 * np.sqrt(count) / 50)
        self.bias = rng.integers(-9000, 9000, self.m, dtype=np.int32)
        self.scales = np.concatenate([[self.x_scale, self.y_scale], self.w_scale]).astype(np.float32)
        self.params = np.array(
            [1, branches, *self.kernel, self.c, self.m, *stride, *dilation, int(self.valid), activation]
            + [self.multiplier, self.x_zero, self.y_zero, 0], np.int32,
        )  # fmt: skip
        self.version = 1
        self.x_shape = (1, 5, self.c) if kind == "DbqFullyConnected" else (1, 9, 8, self.c)

    def _ends(self, b):
        x = b.tensor(self.x_shape, np.int8, self.x_scale, self.x_zero)
        y = b.tensor((1,) * (2 if self.kind == "DbqFullyConnected" else 4), np.int8, self.y_scale, self.y_zero)
        return x, y

    def packed(self):
        b = Builder()
        x, y = self._ends(b)
        constants = [b.constant(a) for a in (self.codes, self.branch_scales, self.scales, self.bias, self.params)]
        b.op(self.kind, [x, *constants], [y], version=self.version)
        return b.finish([x], [y])

    def int8(self):
        b = Builder()
        x, y = self._ends(b)
        w = b.constant(self.weights, self.w_scale, axis=3 if self.multiplier else 0)
        bias = b.constant(self.bias, self.w_scale * self.x_scale)
        common = {"fusedActivationFunction": self.activation}
        spatial = dict(
            common, padding=int(self.valid), strideH=self.stride[0], strideW=self.stride[1],
            dilationHFactor=self.dilation[0], dilationWFactor=self.dilation[1],
        )  # fmt: skip
        if self.kind == "DbqConv2D":
            b.op("CONV_2D", [x, w, bias], [y], options("Conv2DOptions", **spatial), 3)
        elif self.kind == "DbqDepthwiseConv2D":
            o = options("DepthwiseConv2DOptions", depthMultiplier=self.multiplier, **spatial)
            b.op("DEPTHWISE_CONV_2D", [x, w, bias], [y], o, 3)
        else:
            b.op("FULLY_CONNECTED", [x, w, bias], [y], options("FullyConnectedOptions", **common), 5)
        return b.finish([x], [y])


KINDS = ["DbqConv2D", "DbqDepthwiseConv2D", "DbqFullyConnected"]
GEOMETRIES = [
    {},
    {"stride": (2, 1), "activation": 3},
    {"dilation": (2, 3), "activation": 1},
    {"kernel": (1, 1), "valid": True},
    {"kernel": (2, 5), "stride": (3, 2), "valid": True, "activation": 2},
]


@pytest.mark.parametrize("branches", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_packed_equals_int8(kind, branches, geometry):
    if kind == "DbqFullyConnected":
        geometry = {"activation": geometry.get("activation", 0)}
    layer = Layer(kind, branches, 10 * branches + len(kind), **geometry)
    x = np.random.default_rng(1).integers(-128, 128, (3, *layer.x_shape[1:]), dtype=np.int8)
    expected = interpret(layer.int8(), x, "xnnpack")
    for rounding in ("xnnpack", "builtin"):
        assert_same_codes(expected, Engine(layer.packed(), rounding).run(x))


def test_keep_num_dims():
    layer = Layer("DbqFullyConnected", 1, 0)
    x = np.zeros((2, 5, 7), np.int8)
    assert Engine(layer.packed()).run(x).shape == (10, 11)
    layer.params[15] = 1
    assert Engine(layer.packed()).run(x).shape == (2, 5, 11)


def test_decode_trits_example():
    """+1 -1 0 +1 +1 | -1 -> 2 + 0 + 9 + 54 + 162 = 227; 0 + 3 + 9 + 27 + 81 = 120."""
    assert decode_trits(np.array([227, 120], np.uint8), 1, 6).tolist() == [[1, -1, 0, 1, 1, -1]]


def put(name, index, value):
    def change(layer):
        getattr(layer, name)[index] = value

    return change


def replace(name, make):
    def change(layer):
        setattr(layer, name, make(getattr(layer, name)))

    return change


MALFORMED = [
    (put("codes", 3, 243), r"codes: expected bytes up to 242, got 243 at byte 3"),
    (put("codes", -1, 242), r"codes: expected the last byte of a plane filled with trit 0"),
    (replace("codes", lambda a: a[:-1]), r"codes: expected \d+ bytes, got shape \(\d+,\)"),
    (replace("codes", lambda a: a.astype(np.int32)), r"codes: expected uint8, got int32"),
    (
        put("branch_scales", (0, 4), 0),
        r"branch_scales: expected p >= 1, p > q, p \+ q <= 127, got p 0, q \d+ in channel 4",
    ),
    (put("branch_scales", (0, 2), 128), r"branch_scales: expected .*channel 2"),
    (replace("branch_scales", lambda a: a[:, :-1]), r"branch_scales: expected shape \(2, 11\), got \(2, 10\)"),
    (put("scales", 0, np.nan), r"scales: expected finite values over 0, got nan at 0"),
    (put("scales", 1, 0), r"scales: expected finite values over 0, got 0.0 at 1"),
    (put("scales", 5, -1), r"scales: expected finite values over 0, got -1.0 at 5"),
    (put("scales", 5, np.inf), r"scales: expected finite values over 0, got inf at 5"),
    (replace("scales", lambda a: a[:-1]), r"scales: expected shape \(13,\), got \(12,\)"),
    (replace("bias", lambda a: a[:-1]), r"bias: expected shape \(11,\), got \(10,\)"),
    (put("bias", 0, -(2**31)), r"accumulator: expected K \* 127 \* 255 \+ \|bias\| up to 2147483647, got"),
    (replace("params", lambda a: a[:15]), r"params: expected shape \(16,\), got \(15,\)"),
    (put("params", 0, 3), r"params, format version: expected 1 or 2, got 3; update keras_dbq"),
    (put("params", 0, 2), r"params: expected shape \(17,\), got \(16,\)"),
    (put("params", 1, 3), r"params, branches: expected 1..2, got 3"),
    (put("params", 2, 0), r"params, kernel height: expected 1..16777216, got 0"),
    (put("params", 5, -1), r"params, output channels: expected"),
    (put("params", slice(2, 6), 2**24), r"codes: expected \d+ bytes, got shape"),
    (put("params", 6, 0), r"params, stride h: expected"),
    (put("params", 9, 0), r"params, dilation w: expected"),
    (put("params", 10, 2), r"params, padding: expected 0..1, got 2"),
    (put("params", 11, 4), r"params, activation: expected 0..3, got 4"),
    (put("params", 12, 1), r"params, depth multiplier: expected 0 in DbqConv2D, got 1"),
    (put("params", 13, 128), r"params, input zero point: expected -128..127, got 128"),
    (put("params", 14, -129), r"params, output zero point: expected -128..127, got -129"),
    (put("params", 15, 2), r"params, keep_num_dims: expected 0..1, got 2"),
    (replace("version", lambda v: 2), r"operator version: expected 1, got 2; update keras_dbq"),
]


@pytest.mark.parametrize("change,message", MALFORMED)
def test_malformed_layers_are_named(change, message):
    layer = Layer("DbqConv2D", 2, 0)
    change(layer)
    with pytest.raises(ValueError, match=r"^operator 0 \(DbqConv2D\): " + message):
        Engine(layer.packed())


class CountingLayer(Layer):
    """Version 2: four codes from 60 on, whose thresholds differ from channel to channel."""

    def __init__(self, kind="DbqConv2D"):
        super().__init__(kind, 2, 0)
        self.params = np.append(self.params, 60).astype(np.int32)
        self.params[0] = 2
        self.thresholds = np.sort(np.random.default_rng(3).integers(-30000, 30000, (3, self.m)), 0).astype(np.int32)

    def packed(self):
        b = Builder()
        x, y = self._ends(b)
        arrays = (self.codes, self.branch_scales, self.scales, self.bias, self.params, self.thresholds)
        b.op(self.kind, [x, *(b.constant(a) for a in arrays if a is not None)], [y], version=self.version)
        return b.finish([x], [y])


def test_codes_count_the_thresholds_that_a_sum_has_reached():
    """By loops over a fully connected layer; also where a threshold is exactly the sum."""
    layer = CountingLayer("DbqFullyConnected")
    x = np.random.default_rng(1).integers(-128, 128, (4, 5, 7), dtype=np.int8)
    sums = (x.reshape(-1, 7).astype(int) - layer.x_zero) @ layer.weights.T.astype(int) + layer.bias
    layer.thresholds[1] = sums[3]
    layer.thresholds.sort(0)
    expected = [[60 + sum(int(s >= t) for t in layer.thresholds[:, m]) for m, s in enumerate(row)] for row in sums]
    for rounding in ("xnnpack", "builtin"):
        np.testing.assert_array_equal(Engine(layer.packed(), rounding).run(x), expected)
    assert {code for row in expected for code in row} == {60, 61, 62, 63}
    assert Engine(layer.packed()).grids_behind_thresholds == [(float(layer.y_scale), layer.y_zero)]
    assert Engine(Layer("DbqConv2D", 1, 0).packed()).grids_behind_thresholds == []


@pytest.mark.parametrize(
    "change, message",
    [
        (put("params", 0, 1), r"params: expected shape \(16,\), got \(17,\)"),
        (put("params", 16, 125), r"params, lowest code: expected -128..124, got 125"),
        (replace("thresholds", lambda t: None), r"format version 2: expected 7 inputs, got 6"),
        (replace("thresholds", lambda t: t[::-1]), r"thresholds: expected numbers that do not fall from row to row"),
        (replace("thresholds", lambda t: t[:, 1:]), r"thresholds: expected shape \(1..15, 11\), got \(3, 10\)"),
        (replace("thresholds", lambda t: np.repeat(t, 6, 0)), r"thresholds: expected .*, got \(18, 11\)"),
        (replace("thresholds", lambda t: t.astype(np.float32)), r"thresholds: expected int32, got float32"),
        (put("bias", 0, 2**31 - 1 - 63 * 127 * 255), r"accumulator: expected .* up to 2147483646, got 2147483647"),
    ],
)
def test_malformed_thresholds_are_named(change, message):
    layer = CountingLayer()
    change(layer)
    with pytest.raises(ValueError, match=r"^operator 0 \(DbqConv2D\): " + message):
        Engine(layer.packed())


def test_version_2_has_no_depthwise_layer_and_version_1_no_thresholds():
    with pytest.raises(ValueError, match="expected DbqConv2D or DbqFullyConnected, got DbqDepthwiseConv2D"):
        Engine(CountingLayer("DbqDepthwiseConv2D").packed())
    layer = CountingLayer()
    layer.params = layer.params[:16]
    layer.params[0] = 1
    with pytest.raises(ValueError, match="format version 1: expected 6 inputs, got 7"):
        Engine(layer.packed())


def test_malformed_depthwise_and_dense():
    layer = Layer("DbqDepthwiseConv2D", 1, 0)
    layer.params[12] = 3
    with pytest.raises(
        ValueError, match="expected output channels = input channels [*] depth multiplier, got 14, 7, 3"
    ):
        Engine(layer.packed())
    layer = Layer("DbqFullyConnected", 1, 0)
    layer.params[6] = 2
    with pytest.raises(ValueError, match="expected kernel, stride, dilation 1 and padding VALID in DbqFullyConnected"):
        Engine(layer.packed())


def test_constants_must_be_constant_and_complete():
    layer = Layer("DbqConv2D", 1, 0)
    b = Builder()
    x, y = layer._ends(b)
    inputs = [x] + [b.constant(a) for a in (layer.codes, layer.branch_scales, layer.scales, layer.bias)]
    b.op("DbqConv2D", inputs, [y])
    with pytest.raises(ValueError, match=r"expected 6 inputs \(input, codes, .*params\), got 5"):
        Engine(b.finish([x], [y]))
    b = Builder()
    x, y = layer._ends(b)
    codes = b.tensor(layer.codes.shape, np.uint8)
    b.op(
        "DbqConv2D",
        [x, codes] + [b.constant(a) for a in (layer.branch_scales, layer.scales, layer.bias, layer.params)],
        [y],
    )
    with pytest.raises(ValueError, match="codes: expected a constant tensor, got an activation"):
        Engine(b.finish([x, codes], [y]))


def test_input_channels_must_agree():
    layer = Layer("DbqConv2D", 1, 0)
    layer.x_shape = (1, 9, 8, 6)
    with pytest.raises(ValueError, match=r"expected an input \[N, H, W, 7\], got \(2, 9, 8, 6\)"):
        Engine(layer.packed()).run(np.zeros((2, 9, 8, 6), np.int8))


def test_damaged_files_raise_value_error_only():
    """Random bytes changed in a packed file: it runs, or it is refused in one line; nothing else."""
    whole = Layer("DbqConv2D", 2, 0, stride=(2, 2)).packed()
    rng = np.random.default_rng(0)
    x = np.zeros((1, 9, 8, 7), np.int8)
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            damaged[int(rng.integers(0, len(damaged)))] = int(rng.integers(0, 256))
        try:
            Engine(bytes(damaged)).run(x)
        except ValueError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 40
