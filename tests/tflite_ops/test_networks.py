"""A network as one partition: every operator that the delegate knows, byte for byte the stock interpreter's result."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import pytest
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema

from keras_dbq.runtime.interpreter import Interpreter, delegate_path
from keras_dbq.tflite.pack import pack_tflite
from keras_dbq.tflite.unpack import unpack_tflite
from tests.tflite_ops.packed_models import ModelBuilder

OP, OPTIONS = schema.BuiltinOperator, schema.BuiltinOptions
SIZE, CHANNELS, CLASSES = 17, 3, 10


class _Network:
    """Adds int8 operators one after the other; weights are trits times 127, so that they can be packed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = ModelBuilder()

    def value(self, shape: Sequence[int], like: int | None = None) -> int:
        """A new activation, of a given one's scale or of its own."""
        name = f"t{len(self.builder.graph.tensors)}"
        scale, zero_point = np.float32(self.rng.uniform(0.03, 0.06)), np.array([self.rng.integers(-128, 60)])
        if like is not None:
            quantization = self.builder.graph.tensors[like].quantization
            scale, zero_point = quantization.scale[0], quantization.zeroPoint
        return self.builder.tensor(name, tuple(shape), scale=scale, zero_point=zero_point)

    def shape(self, tensor: int) -> list[int]:
        return [int(n) for n in self.builder.graph.tensors[tensor].shape]

    def add(self, code: int, inputs: list[int], output: int, kind: int, options: object) -> int:
        operator = self.builder.operator(code, inputs, [output])
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        return output

    def constants(self, x: int, shape: tuple[int, ...], channels: int, axis: int) -> list[int]:
        """Weights and bias such that the sums, times their scales, spread over a few units."""
        trits = self.rng.integers(-1, 2, shape)
        depth = trits.size // channels
        scale = self.rng.uniform(0.5, 1.5, channels).astype(np.float32) * np.float32(2 / (127 * np.sqrt(depth)))
        input_scale = np.float32(self.builder.graph.tensors[x].quantization.scale[0])
        bias = self.rng.integers(-500, 500, channels).astype(np.int32)
        weights = self.builder.tensor("w", shape, data=(trits * 127).astype(np.int8), scale=scale, axis=axis)
        return [weights, self.builder.tensor("b", bias.shape, "int32", bias, scale=input_scale * scale)]

    def convolution(self, x: int, channels: int, kernel: int, stride: int = 1, padding: int = 0) -> int:
        n, h, w, c = self.shape(x)
        constants = self.constants(x, (channels, kernel, kernel, c), channels, 0)
        options = schema.Conv2DOptionsT()
        self._window(options, stride, padding)
        size = [-(-s // stride) if padding == 0 else (s - kernel) // stride + 1 for s in (h, w)]
        return self.add(OP.CONV_2D, [x, *constants], self.value((n, *size, channels)), OPTIONS.Conv2DOptions, options)

    def depthwise(self, x: int, kernel: int, stride: int = 1) -> int:
        n, h, w, c = self.shape(x)
        constants = self.constants(x, (1, kernel, kernel, c), c, 3)
        options = schema.DepthwiseConv2DOptionsT()
        options.depthMultiplier = 1
        self._window(options, stride, 0)
        y = self.value((n, -(-h // stride), -(-w // stride), c))
        return self.add(OP.DEPTHWISE_CONV_2D, [x, *constants], y, OPTIONS.DepthwiseConv2DOptions, options)

    @staticmethod
    def _window(options: schema.Conv2DOptionsT | schema.DepthwiseConv2DOptionsT, stride: int, padding: int) -> None:
        options.strideH = options.strideW = stride
        options.dilationHFactor = options.dilationWFactor = 1
        options.padding, options.fusedActivationFunction = padding, 1

    def sum(self, a: int, b: int) -> int:
        return self.add(OP.ADD, [a, b], self.value(self.shape(a)), OPTIONS.AddOptions, schema.AddOptionsT())

    def pad(self, x: int) -> int:
        n, h, w, c = self.shape(x)
        pads = self.builder.tensor("pads", (4, 2), "int32", np.array([[0, 0], [1, 1], [0, 1], [0, 0]], np.int32))
        y = self.value((n, h + 2, w + 1, c), like=x)
        return self.add(OP.PAD, [x, pads], y, OPTIONS.PadOptions, schema.PadOptionsT())

    def pool(self, x: int, code: int) -> int:
        n, h, w, c = self.shape(x)
        options = schema.Pool2DOptionsT()
        options.filterHeight = options.filterWidth = options.strideH = options.strideW = 2
        y = self.value((n, -(-h // 2), -(-w // 2), c), like=x)
        return self.add(code, [x], y, OPTIONS.Pool2DOptions, options)

    def join(self, x: int) -> int:
        """A max and an average pool side by side."""
        parts = [self.pool(x, code) for code in (OP.MAX_POOL_2D, OP.AVERAGE_POOL_2D)]
        options = schema.ConcatenationOptionsT()
        options.axis = 3
        shape = self.shape(parts[0])
        y = self.value((*shape[:3], 2 * shape[3]), like=x)
        return self.add(OP.CONCATENATION, parts, y, OPTIONS.ConcatenationOptions, options)

    def mean(self, x: int) -> int:
        n, _, _, c = self.shape(x)
        axes = self.builder.tensor("axes", (2,), "int32", np.array([1, 2], np.int32))
        options = schema.ReducerOptionsT()
        options.keepDims = True
        return self.add(OP.MEAN, [x, axes], self.value((n, 1, 1, c)), OPTIONS.ReducerOptions, options)

    def resize(self, x: int, size: tuple[int, int]) -> int:
        n, _, _, c = self.shape(x)
        sizes = self.builder.tensor("size", (2,), "int32", np.array(size, np.int32))
        options = schema.ResizeBilinearOptionsT()
        options.halfPixelCenters = True
        y = self.value((n, *size, c), like=x)
        return self.add(OP.RESIZE_BILINEAR, [x, sizes], y, OPTIONS.ResizeBilinearOptions, options)

    def rescale(self, x: int) -> int:
        y = self.value(self.shape(x))
        return self.add(OP.QUANTIZE, [x], y, OPTIONS.QuantizeOptions, schema.QuantizeOptionsT())

    def real(self, shape: Sequence[int]) -> int:
        """A new activation in float32."""
        return self.builder.tensor(f"t{len(self.builder.graph.tensors)}", tuple(shape), "float32")

    def quantized(self, x: int) -> int:
        y = self.value(self.shape(x))
        return self.add(OP.QUANTIZE, [x], y, OPTIONS.QuantizeOptions, schema.QuantizeOptionsT())

    def dequantized(self, x: int) -> int:
        return self.add(
            OP.DEQUANTIZE, [x], self.real(self.shape(x)), OPTIONS.DequantizeOptions, schema.DequantizeOptionsT()
        )

    def look_up(self, x: int) -> int:
        """A random function of one code: CAST, CAST, GATHER."""
        shape = tuple(self.shape(x))
        for kind in ("uint8", "int32"):
            y = self.builder.tensor(kind, shape, kind)
            x = self.add(OP.CAST, [x], y, OPTIONS.CastOptions, schema.CastOptionsT())
        codes = self.rng.integers(-128, 128, 256).astype(np.int8)
        y = self.value(shape)
        table = self.builder.tensor("table", (256,), data=codes, scale=np.float32(0.1))
        return self.add(OP.GATHER, [table, x], y, OPTIONS.GatherOptions, schema.GatherOptionsT())

    def flat(self, x: int) -> int:
        n, _, _, c = self.shape(x)
        shape = self.builder.tensor("shape", (2,), "int32", np.array([-1, c], np.int32))
        options = schema.ReshapeOptionsT()
        options.newShape = np.array([-1, c], np.int32)
        return self.add(OP.RESHAPE, [x, shape], self.value((n, c), like=x), OPTIONS.ReshapeOptions, options)

    def dense(self, x: int, channels: int) -> int:
        n, c = self.shape(x)
        constants = self.constants(x, (channels, c), channels, 0)
        options = schema.FullyConnectedOptionsT()
        y = self.value((n, channels))
        return self.add(OP.FULLY_CONNECTED, [x, *constants], y, OPTIONS.FullyConnectedOptions, options)


def network(seed: int, width: int, in_float: bool = False) -> bytes:
    """Stem, a residual block with depthwise convolutions, a pad before a stride, pools, a resize, a table, head.

    in_float: inputs and outputs are float32, with a QUANTIZE behind and a DEQUANTIZE before them.
    """
    net = _Network(seed)
    image = (net.real if in_float else net.value)((1, SIZE, SIZE, CHANNELS))
    x = net.convolution(net.quantized(image) if in_float else image, width, 3, stride=2)
    y = net.convolution(net.depthwise(x, 3), 2 * width, 1)
    y = net.convolution(net.depthwise(y, 5), width, 1)
    x = net.sum(x, y)
    x = net.convolution(net.pad(x), width + 5, 3, stride=2, padding=1)
    x = net.join(net.depthwise(x, 3, stride=2))
    x = net.sum(net.convolution(x, 2 * width, 1), net.convolution(x, 2 * width, 3))
    x = net.convolution(net.look_up(net.rescale(net.resize(x, (7, 4)))), width, 3)
    y = net.dense(net.flat(net.mean(x)), CLASSES)
    y = net.dequantized(y) if in_float else y
    net.builder.graph.inputs, net.builder.graph.outputs = [image], [y]
    return net.builder.bytes()


def _instruction_sets() -> list[str]:
    """Those that this processor has."""
    found = []
    for isa in ("auto", "avx512vnni", "avxvnni", "avx2", "scalar"):
        with contextlib.suppress(ValueError):
            litert.load_delegate(str(delegate_path()), {"isa": isa})
            found.append(isa)
    return found


@pytest.mark.parametrize("width", [8, 13, 40, 72])
def test_a_network_gives_the_stock_bytes(width: int) -> None:
    """int8 and packed; every instruction set; one example and several; one thread and two."""
    content = network(width, width)
    packed = pack_tflite(content).data
    x = np.random.default_rng(width).integers(-128, 128, (5, SIZE, SIZE, CHANNELS)).astype(np.int8)
    expected = Interpreter(unpack_tflite(packed), delegate=False).predict(x)
    assert len(np.unique(expected)) > 8, "the outputs say nothing"
    np.testing.assert_array_equal(Interpreter(content, delegate=False).predict(x), expected)
    for isa in _instruction_sets():
        for threads in (1, 2):
            for batch_size in (1, 5):
                for file in (packed, content):
                    model = Interpreter(file, threads, isa=isa)
                    np.testing.assert_array_equal(model.predict(x, batch_size=batch_size), expected)


@pytest.mark.parametrize("width", [8, 40])
def test_a_network_of_float32_gives_the_stock_bytes(width: int) -> None:
    content = network(width, width, in_float=True)
    x = np.random.default_rng(width).normal(0, 4, (5, SIZE, SIZE, CHANNELS)).astype(np.float32)
    expected = Interpreter(content, delegate=False).predict(x)
    assert expected.dtype == np.float32 and len(np.unique(expected)) > 8, "the outputs say nothing"
    for isa in _instruction_sets():
        for threads, batch_size in ((1, 1), (1, 5), (2, 5)):
            found = Interpreter(content, threads, isa=isa).predict(x, batch_size=batch_size)
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("in_float", [False, True])
def test_the_network_is_one_partition(in_float: bool) -> None:
    """Everything is taken: what the interpreter runs is one node."""
    delegate = litert.load_delegate(str(delegate_path()), {"builtins": "all"})
    content = network(1, 16, in_float)
    model = litert.Interpreter(model_content=content, experimental_delegates=[delegate])
    model.allocate_tensors()
    names = [op["op_name"] for op in model._get_ops_details()]
    assert names.count("DELEGATE") == 1 and names[-1] == "DELEGATE"
    assert model._get_ops_details()[-1]["outputs"].tolist() == [model.get_output_details()[0]["index"]]


@pytest.mark.parametrize("shown", ["unsigned", "index", "both", "read twice"])
def test_a_table_whose_indices_are_read_stays_with_the_runtime(shown: str) -> None:
    """What stands between the CASTs is not in our plan, so nobody else may want it."""
    net = _Network(3)
    x = net.value((1, 4, 5, 6))
    y = net.look_up(x)
    graph = net.builder.graph
    unsigned, index = x + 1, x + 2
    outputs = {"unsigned": [unsigned], "index": [index], "both": [unsigned, index], "read twice": []}[shown]
    if shown == "read twice":
        real = net.builder.tensor("real", (1, 4, 5, 6), "float32")
        outputs = [net.add(OP.CAST, [index], real, OPTIONS.CastOptions, schema.CastOptionsT())]
    graph.inputs, graph.outputs = [x], [y, *outputs]
    found = []
    codes = np.random.default_rng(0).integers(-128, 128, (1, 4, 5, 6)).astype(np.int8)
    for delegates in ([], [litert.load_delegate(str(delegate_path()), {"builtins": "all"})]):
        model = litert.Interpreter(model_content=net.builder.bytes(), experimental_delegates=delegates)
        model.allocate_tensors()
        model.set_tensor(model.get_input_details()[0]["index"], codes)
        model.invoke()
        found.append([model.get_tensor(detail["index"]) for detail in model.get_output_details()])
    for expected, ours in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, expected)


def _run_all(content: bytes, x: np.ndarray, options: dict[str, str] | None) -> tuple[list[np.ndarray], list[str]]:
    """The outputs, and the names of what the interpreter runs; without options of the stock interpreter."""
    delegates = [] if options is None else [litert.load_delegate(str(delegate_path()), options)]
    model = litert.Interpreter(model_content=content, experimental_delegates=delegates)
    model.allocate_tensors()
    model.set_tensor(model.get_input_details()[0]["index"], x)
    model.invoke()
    outputs = [model.get_tensor(detail["index"]) for detail in model.get_output_details()]
    return outputs, [op["op_name"] for op in model._get_ops_details()]


@pytest.mark.parametrize("shown", [False, True])
def test_float_in_the_middle(shown: bool) -> None:
    """DEQUANTIZE, then QUANTIZE: what is between them is in the runtime's memory, whether or not somebody wants it."""
    net = _Network(5)
    x = net.value((1, 6, 5, 8))
    real = net.dequantized(net.convolution(x, 12, 3))
    y = net.convolution(net.quantized(real), 10, 3)
    net.builder.graph.inputs, net.builder.graph.outputs = [x], [y, *([real] if shown else [])]
    codes = np.random.default_rng(0).integers(-128, 128, (1, 6, 5, 8)).astype(np.int8)
    expected, _ = _run_all(net.builder.bytes(), codes, None)
    found, names = _run_all(net.builder.bytes(), codes, {"builtins": "all"})
    assert "DELEGATE" in names
    for ours, stock in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, stock)


def test_conversions_that_touch_nothing_of_ours_stay_with_the_runtime() -> None:
    net = _Network(6)
    x = net.real((1, 4, 4, 8))
    y = net.dequantized(net.quantized(x))
    net.builder.graph.inputs, net.builder.graph.outputs = [x], [y]
    values = np.random.default_rng(0).normal(0, 3, (1, 4, 4, 8)).astype(np.float32)
    expected, without = _run_all(net.builder.bytes(), values, None)
    found, names = _run_all(net.builder.bytes(), values, {"builtins": "all"})
    assert names == without
    np.testing.assert_array_equal(found[0], expected[0])
