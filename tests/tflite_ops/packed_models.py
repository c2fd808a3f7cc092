"""Files with one operator, built byte by byte: the packed operator and the stock int8 operator that it equals.

Follows docs/packing.md on its own and shares no code with the exporter: an error there cannot hide here.
"""

from __future__ import annotations

import dataclasses

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

ACTIVATIONS = {"none": 0, "relu": 1, "relu_n1_to_1": 2, "relu6": 3}
PADDINGS = {"same": 0, "valid": 1}
CUSTOM_NAMES = {
    "conv2d": "DbqConv2D",
    "depthwise_conv2d": "DbqDepthwiseConv2D",
    "fully_connected": "DbqFullyConnected",
}
BUILTINS = {
    "conv2d": schema.BuiltinOperator.CONV_2D,
    "depthwise_conv2d": schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    "fully_connected": schema.BuiltinOperator.FULLY_CONNECTED,
}
_TYPES = {
    np.dtype("int8"): schema.TensorType.INT8,
    np.dtype("uint8"): schema.TensorType.UINT8,
    np.dtype("int32"): schema.TensorType.INT32,
    np.dtype("float32"): schema.TensorType.FLOAT32,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One layer; weights, bias, scales and input follow from `seed`. input_shape NHWC, fully connected any rank."""

    kind: str = "conv2d"
    input_shape: tuple[int, ...] = (1, 7, 6, 5)
    out_channels: int = 9  # depthwise: input channels * multiplier
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: str = "same"
    activation: str = "none"
    branches: int = 1
    multiplier: int = 0
    input_zero_point: int = -3
    output_zero_point: int = 5
    keep_num_dims: bool = False
    per_tensor: bool = False  # one scale for all channels
    scale_bits: int | None = None  # of every scale's mantissa: few make sums that stand on a tie frequent
    seed: int = 0

    @property
    def in_channels(self) -> int:
        return self.input_shape[-1]

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """OHWI, depthwise 1HWM, fully connected [M, K]."""
        if self.kind == "conv2d":
            return (self.out_channels, *self.kernel, self.in_channels)
        if self.kind == "depthwise_conv2d":
            return (1, *self.kernel, self.out_channels)
        return (self.out_channels, self.in_channels)

    @property
    def channel_axis(self) -> int:
        return 3 if self.kind == "depthwise_conv2d" else 0

    @property
    def output_shape(self) -> tuple[int, ...]:
        if self.kind == "fully_connected":
            rows = int(np.prod(self.input_shape)) // self.in_channels
            return (*self.input_shape[:-1], self.out_channels) if self.keep_num_dims else (rows, self.out_channels)
        spatial = []
        for axis in range(2):
            size, stride = self.input_shape[1 + axis], self.stride[axis]
            extent = (self.kernel[axis] - 1) * self.dilation[axis] + 1
            spatial.append(-(-size // stride) if self.padding == "same" else (size - extent) // stride + 1)
        return (self.input_shape[0], *spatial, self.out_channels)


@dataclasses.dataclass
class Tensors:
    """The constants of one layer. trits int8 [B, *weight_shape]; integers int8 weight_shape."""

    trits: np.ndarray
    branch_scales: np.ndarray  # uint8 [B, M]
    integers: np.ndarray
    weight_scale: np.ndarray  # float32 [M]
    bias: np.ndarray  # int32 [M]
    input_scale: np.float32
    output_scale: np.float32


def coarse(scale: np.ndarray, bits: int | None) -> np.ndarray:
    """float32 scales with mantissas of so many bits; with one they are powers of two."""
    if bits is None:
        return np.asarray(scale, np.float32)
    mantissa, exponent = np.frexp(scale)
    return np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits).astype(np.float32)


def random_tensors(case: Case) -> Tensors:
    """Weights with about a third zeros; the output scale is such that outputs fill, and pass, the int8 range."""
    rng = np.random.default_rng(case.seed)
    trits = rng.integers(-1, 2, (case.branches, *case.weight_shape)).astype(np.int8)
    q = rng.integers(0, 64, case.out_channels) if case.branches == 2 else np.zeros(case.out_channels, int)
    branch_scales = np.stack([127 - q, q])[: case.branches].astype(np.uint8)
    shape = [1] * len(case.weight_shape)
    shape[case.channel_axis] = case.out_channels
    integers = sum(trits[b].astype(int) * branch_scales[b].reshape(shape) for b in range(case.branches))
    depth = integers.size // case.out_channels
    spread = np.sqrt(depth) * 74.0 * max(1.0, float(np.std(integers)))  # of the accumulator
    weight_scale = coarse(0.01 * rng.uniform(0.5, 1.5, case.out_channels), case.scale_bits)
    if case.per_tensor:
        weight_scale[:] = weight_scale[0]
    bias = rng.integers(-int(spread), int(spread) + 1, case.out_channels).astype(np.int32)
    input_scale = np.float32(coarse(np.float64(0.04), case.scale_bits))
    output_scale = np.float32(coarse(np.float64(0.04 * 0.01 * spread / 60.0), case.scale_bits))
    return Tensors(trits, branch_scales, integers.astype(np.int8), weight_scale, bias, input_scale, output_scale)


def random_input(case: Case, batch: int | None = None) -> np.ndarray:
    """int8 codes of the input's shape, all 256 values likely; batch replaces the first axis."""
    shape = case.input_shape if batch is None else (batch, *case.input_shape[1:])
    return np.random.default_rng(case.seed + 1).integers(-128, 128, shape).astype(np.int8)


def pack_codes(trits: np.ndarray) -> np.ndarray:
    """trits [B, ...] -> uint8 [B * ceil(W / 5)], five trits a byte, least significant first."""
    planes = []
    for plane in trits.reshape(len(trits), -1):
        digits = np.concatenate([plane, np.zeros(-plane.size % 5, np.int8)]).astype(int) + 1
        planes.append(digits.reshape(-1, 5) @ np.array([1, 3, 9, 27, 81]))
    return np.concatenate(planes).astype(np.uint8)


def params(case: Case) -> np.ndarray:
    """int32 [16], docs/packing.md."""
    spatial = (1, 1, case.in_channels, case.out_channels, 1, 1, 1, 1, 1)
    if case.kind != "fully_connected":
        spatial = (
            *case.kernel,
            case.in_channels,
            case.out_channels,
            *case.stride,
            *case.dilation,
            PADDINGS[case.padding],
        )
    tail = (case.multiplier, case.input_zero_point, case.output_zero_point, int(case.keep_num_dims))
    return np.array([1, case.branches, *spatial, ACTIVATIONS[case.activation], *tail], np.int32)


def constant_arrays(case: Case) -> dict[str, np.ndarray]:
    """Tensors 1 .. 5 of the packed operator by name."""
    t = random_tensors(case)
    return {
        "codes": pack_codes(t.trits),
        "branch_scales": t.branch_scales,
        "scales": np.concatenate([[t.input_scale, t.output_scale], t.weight_scale]).astype(np.float32),
        "bias": t.bias,
        "params": params(case),
    }


class ModelBuilder:
    """Collects tensors and operators of one subgraph and serialises them."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.description = "test"
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.graph.inputs, self.graph.outputs = [], []
        self.model.subgraphs = [self.graph]

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str = "int8",
        data: np.ndarray | None = None,
        scale: np.ndarray | None = None,
        zero_point: np.ndarray | None = None,
        axis: int = 0,
    ) -> int:
        """Adds a tensor (constant when data is given) and returns its index."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), _TYPES[np.dtype(dtype)]
        tensor.buffer = 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        if scale is not None:
            quantization = schema.QuantizationParametersT()
            quantization.scale = np.atleast_1d(np.asarray(scale, np.float32))
            points = np.zeros(quantization.scale.size) if zero_point is None else zero_point
            quantization.zeroPoint = np.atleast_1d(np.asarray(points, np.int64))
            quantization.quantizedDimension = axis
            tensor.quantization = quantization
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operator(
        self, builtin: int, inputs: list[int], outputs: list[int], custom: str | None = None
    ) -> schema.OperatorT:
        """Adds an operator and returns it, for its options."""
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode = builtin, min(builtin, 127)
        code.customCode, code.version = custom, 1
        self.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = inputs, outputs
        self.graph.operators.append(operator)
        return operator

    def bytes(self) -> bytes:
        return serialize(self.model)


def serialize(model: schema.ModelT) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _activation_tensors(builder: ModelBuilder, case: Case, t: Tensors) -> tuple[int, int]:
    x = builder.tensor("x", case.input_shape, scale=t.input_scale, zero_point=np.array([case.input_zero_point]))
    y = builder.tensor("y", case.output_shape, scale=t.output_scale, zero_point=np.array([case.output_zero_point]))
    builder.graph.inputs, builder.graph.outputs = [x], [y]
    return x, y


def packed_model(case: Case, arrays: dict[str, np.ndarray] | None = None) -> bytes:
    """The custom operator. arrays: constants that replace those of `constant_arrays`, by name; thresholds join them."""
    builder = ModelBuilder()
    x, y = _activation_tensors(builder, case, random_tensors(case))
    constants = {**constant_arrays(case), **(arrays or {})}
    inputs = [x] + [
        builder.tensor(name, constants[name].shape, constants[name].dtype.name, constants[name])
        for name in ("codes", "branch_scales", "scales", "bias", "params", "thresholds")
        if name in constants
    ]
    builder.operator(schema.BuiltinOperator.CUSTOM, inputs, [y], CUSTOM_NAMES[case.kind])
    return builder.bytes()


def int8_model(case: Case) -> bytes:
    """The stock operator with the same integers."""
    builder = ModelBuilder()
    t = random_tensors(case)
    x, y = _activation_tensors(builder, case, t)
    scale = t.weight_scale[:1] if case.per_tensor else t.weight_scale
    weights = builder.tensor("weights", case.weight_shape, data=t.integers, scale=scale, axis=case.channel_axis)
    bias = builder.tensor("bias", t.bias.shape, "int32", t.bias, scale=t.input_scale * scale)
    operator = builder.operator(BUILTINS[case.kind], [x, weights, bias], [y])
    operator.builtinOptionsType, operator.builtinOptions = _options(case)
    return builder.bytes()


def _options(case: Case) -> tuple[int, object]:
    if case.kind == "fully_connected":
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = ACTIVATIONS[case.activation]
        options.keepNumDims = case.keep_num_dims
        return schema.BuiltinOptions.FullyConnectedOptions, options
    depthwise = case.kind == "depthwise_conv2d"
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    options.padding = PADDINGS[case.padding]
    options.strideH, options.strideW = case.stride
    options.dilationHFactor, options.dilationWFactor = case.dilation
    options.fusedActivationFunction = ACTIVATIONS[case.activation]
    if depthwise:
        options.depthMultiplier = case.multiplier
        return schema.BuiltinOptions.DepthwiseConv2DOptions, options
    return schema.BuiltinOptions.Conv2DOptions, options
