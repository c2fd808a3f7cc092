"""The graph that the converter gets: plain TensorFlow operators with the quantized weights as arguments.

Each call of a layer runs in a name scope of its own ("n0007"), so that tensors of the converted file are found again
whatever the converter fuses. Batch norm is folded here, into the scales (docs/architecture.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_dbq import _progress
from keras_dbq.compat import keras, tf
from keras_dbq.export import tables
from keras_dbq.export.kernels import Kernel
from keras_dbq.limits import TOP_LEVEL
from keras_dbq.network import graph, kernels, roles, tracing
from keras_dbq.network.batch_norm import affine
from keras_dbq.ops import activations as activation_ops
from keras_dbq.tflite.operators import Grid
from keras_dbq.tflite.signature import Ends
from keras_dbq.wrapping import naming, wrappers
from keras_dbq.wrapping.layers import QuantizeTensor

L = keras.layers
Function = Callable[[np.ndarray], np.ndarray]
TOKEN = re.compile(r"\bn\d{4}\b")
GRID = re.compile(r"\b(n\d{4})/grid")  # the fake-quant behind a call, and its token


@dataclass
class InferenceGraph:
    """A function for the converter, and what its names mean."""

    function: Any  # concrete tf.function
    kernels: dict[str, Kernel] = field(default_factory=dict)  # token -> record
    arguments: list[Kernel] = field(default_factory=list)  # what the function's last arguments stand for
    biases: dict[str, np.ndarray] = field(default_factory=dict)  # token -> the bias that the converter saw, float32
    grids: dict[str, Grid] = field(default_factory=dict)  # token -> grid of the layer's output
    tables: dict[int, Function] = field(default_factory=dict)  # number of a marker -> the function that it stands for
    names: dict[str, str] = field(default_factory=dict)  # token -> layer name
    tensor_names: dict[str, str] = field(default_factory=dict)  # token of a quantizer -> name of the tensor in the file
    input_layers: list[str] = field(default_factory=list)  # in Keras' order
    ends: Ends = field(default_factory=lambda: Ends([], []))  # what Keras calls its inputs and outputs, in its order


def build(q_model: keras.Model, without_table: frozenset[int] = frozenset()) -> InferenceGraph:
    """Traces the inference graph of a quantized model (nested models are spliced in).

    Args:
      without_table: numbers of the calls that stay plain operators although a table could stand for them.

    Raises:
      TypeError, ValueError: not a quantized model; a batch norm that cannot be folded because its layer is shared.
    """
    wrappers.check_quantized(q_model, "export_tflite")
    return _Builder(q_model, without_table).build()


class _Builder:
    def __init__(self, q_model: keras.Model, without_table: frozenset[int]):
        self.model, self.without_table = q_model, without_table
        self.result = InferenceGraph(function=None)
        self.nodes = graph.nodes(q_model)
        self.tensor_names = {id(q.node): q.name for q in naming.quantized_outputs(q_model)}
        self.folded = naming.folds(q_model)
        self.argument: dict[int, int] = {}  # layer -> which of the arguments for weights is its own
        self.weights: tuple[Any, ...] = ()  # those, while the function is traced
        self.count = 0

    def build(self) -> InferenceGraph:
        inputs = self.model.inputs
        self.result.input_layers = [layer.name for layer in graph.input_layers(self.model)]
        names = graph.input_names(self.model), naming.output_names(self.model)
        self.result.ends = Ends(*names, isinstance(self.model.output, dict))
        specs = [
            tf.TensorSpec([None, *t.shape[1:]], t.dtype, name=f"input{i}") for i, t in enumerate(inputs)
        ]  # a batch of any size
        specs += self._find_weights()

        def infer(*tensors: Any) -> Any:
            self.count = 0
            tensors, self.weights = tensors[: len(inputs)], tensors[len(inputs) :]
            outputs = tf.nest.flatten(graph.replay(self.model, list(tensors), self._replace))
            return [tf.identity(t, name=f"output{i}") for i, t in enumerate(outputs)]

        self.result.function = tf.function(infer, autograph=False).get_concrete_function(*specs)
        return self.result

    def _find_weights(self) -> list[Any]:
        """Makes the records of all layers with quantized weights; the arguments for them."""
        specs: list[Any] = []
        layers = [layer for layer in wrappers.all_layers(self.model) if _is_kernel_layer(layer)]
        for layer in _progress.over(layers, f"export: weights of {len(layers)} layers", "layer"):
            record = kernel_record(layer, self.folded.get(id(layer)))
            if record is not None:
                self.argument[id(layer)] = len(specs)
                self.result.arguments.append(record)
                specs.append(tf.TensorSpec(_kernel_variable(layer).shape, tf.float32, name=f"weights{len(specs)}"))
        return specs

    # one layer

    def _replace(self, layer: keras.layers.Layer) -> Callable[..., Any]:
        if isinstance(layer, keras.Model):
            return lambda x, **_: graph.replay(layer, tf.nest.flatten(x), self._replace)
        emit = self._emitter(layer)
        nodes = iter([node for node in self.nodes if node.layer is layer])

        def call(*args: Any, **kwargs: Any) -> Any:
            token, number, node = f"n{self.count:04d}", self.count, next(nodes, None)
            self.count += 1
            self.result.names[token] = naming.plain_name(layer)
            with tf.name_scope(token):
                if self._is_table(node) and number not in self.without_table:
                    result = self._marker(number, node, args, kwargs)
                else:
                    result = emit(token, *args, **kwargs)
                return self._quantize_output(layer, node, token, result)

        return call

    @staticmethod
    def _is_table(node: Any) -> bool:
        return node is not None and roles.role(node) == roles.TABLE

    def _marker(self, number: int, node: Any, args: Any, kwargs: Any) -> Any:
        """An operator that the converter keeps as it is, in place of a function of one number; see `tables`."""
        with tf.init_scope():
            self.result.tables[number] = tracing.function_by_number(node)
        (x,) = [value for value in tf.nest.flatten((args, kwargs)) if tf.is_symbolic_tensor(value)]
        return tf.nn.leaky_relu(x, tables.marker_slope(number))

    def _quantize_output(self, layer: keras.layers.Layer, node: Any, token: str, value: Any) -> Any:
        quantized = wrappers.quantized_output(layer)
        if quantized is None:
            return value
        with tf.init_scope():  # read variables now, outside of the graph that is being traced
            scale, zero_point = quantized.quantizer.grid(quantized.variables)
        bottom = -128 if quantized.quantizer.unsigned else activation_ops.bottom_code(quantized.quantizer.bits)
        self.result.grids[token] = Grid(float(scale), int(zero_point), bottom)
        if node is not None:
            self.result.tensor_names[token] = self.tensor_names[id(node)]
        # Bounds that give back the same grid, on all 256 codes: the converter computes (high - low) / 255.
        low, high = (np.float32((code - zero_point) * np.float64(scale)) for code in (-128, 127))
        return tf.quantization.fake_quant_with_min_max_args(value, low, high, num_bits=8, name="grid")

    def _emitter(self, layer: keras.layers.Layer) -> Callable[..., Any]:
        """(token, *args) -> the layer's float result before its output quantizer."""
        inner = wrappers.inner(layer)
        if isinstance(layer, QuantizeTensor):
            return lambda token, x, **_: x
        if _is_kernel_layer(layer):
            return lambda token, x, **_: self._kernel(layer, token, x)
        if isinstance(inner, L.BatchNormalization) and any(bn is layer for bn in self.folded.values()):
            return lambda token, x, **_: x
        if isinstance(inner, L.AveragePooling2D) and wrappers.quantized_output(layer) is not None:
            return lambda token, x, **_: self._average_pool(inner, token, x)
        if type(inner) is L.LayerNormalization:
            return lambda token, x, **_: _layer_normalization(inner, x)
        if isinstance(inner, (L.Reshape, L.Flatten)):
            return lambda token, x, **_: _reshape(inner, x)
        if isinstance(inner, L.ReLU) and _layer_role(inner) == roles.RELU:
            return lambda token, x, **_: tf.nn.relu(x) if inner.max_value is None else tf.nn.relu6(x)
        if _layer_role(inner) == roles.IDENTITY:
            return lambda token, x, **_: x
        return lambda token, *args, **kwargs: _call(inner, *args, **kwargs)

    def _average_pool(self, layer: Any, token: str, x: Any) -> Any:
        """choice: an average with a range of its own becomes a depthwise convolution of equal weights.

        TFLite's AVERAGE_POOL_2D has to keep its input's scale, so it would round twice, and coarser than Keras did in
        training. Windows that reach over the border (SAME) count fewer values there: those stay pooling.
        """
        (height, width), strides = layer.pool_size, layer.strides
        if layer.padding == "same" and not _tiles(x.shape[1:3], layer.pool_size, strides):
            return layer.call(x)
        channels = x.shape[-1]
        record = Kernel(
            name=layer.name,
            columns=np.full((height * width, channels), TOP_LEVEL, np.int8),
            scale=np.full(channels, 1 / (TOP_LEVEL * height * width), np.float32),
            bias=np.zeros(channels),
            branches=0,
            bits=8,
        )
        self.result.kernels[token], self.result.biases[token] = record, np.zeros(channels, np.float32)
        kernel = record.float_columns.reshape(height, width, channels, 1)
        return _depthwise(x, tf.constant(kernel), strides, "VALID", (1, 1))

    def _kernel(self, layer: keras.layers.Layer, token: str, x: Any) -> Any:
        inner = wrappers.inner(layer)
        if id(layer) not in self.argument:
            with tf.init_scope():
                kernel, bias = _float_kernel(layer, self.folded.get(id(layer)))
            return inner.activation(_product(inner, x, tf.constant(kernel.astype(np.float32)), bias))
        record = self.result.arguments[self.argument[id(layer)]]
        bias = record.bias.astype(np.float32)
        if isinstance(inner, L.Dense) and not bias.any():
            bias = np.ones_like(bias)  # by its bias the converter knows a product with an argument as FULLY_CONNECTED
        self.result.kernels[token], self.result.biases[token] = record, bias
        return inner.activation(_product(inner, x, self.weights[self.argument[id(layer)]], bias))


def _is_kernel_layer(layer: keras.layers.Layer) -> bool:
    return kernels.is_kernel_layer(wrappers.inner(layer))


def _layer_role(layer: keras.layers.Layer) -> str:
    """Role of a layer that is no function layer (those depend on their arguments: "")."""
    return "" if roles.is_function_layer(layer) else roles.plain_role(layer)


def _reshape(layer: Any, x: Any) -> Any:
    """Reshape with a constant shape; Keras' own asks for the batch size at run time, four operators in the file."""
    if isinstance(layer, L.Reshape):
        return tf.reshape(x, [-1, *layer.compute_output_shape(x.shape)[1:]])
    return tf.reshape(x, [-1, int(np.prod(x.shape[1:]))])


def _layer_normalization(layer: Any, x: Any) -> Any:
    """By its definition, in float; Keras' own goes through batch norm and asks for the batch size at run time."""
    axes = [axis % len(x.shape) for axis in tf.nest.flatten(layer.axis)]
    sizes = [x.shape[i] if i in axes else 1 for i in range(len(x.shape))]
    mean, variance = tf.nn.moments(x, axes, keepdims=True)
    with tf.init_scope():  # read variables outside of the graph that is being traced
        scale, offset = (
            None if weight is None else np.reshape(weight.numpy(), sizes) for weight in (layer.gamma, layer.beta)
        )
    return tf.nn.batch_normalization(x, mean, variance, offset, scale, layer.epsilon)


def _call(layer: Any, *args: Any, **kwargs: Any) -> Any:
    if layer._expects_training_arg:
        kwargs["training"] = False
    return layer.call(*args, **kwargs)


def _product(layer: Any, x: Any, kernel: Any, bias: np.ndarray) -> Any:
    """The layer's linear part with its bias, in one TensorFlow operator each."""
    if isinstance(layer, L.Dense):
        if len(x.shape) == 2:
            return _with_bias(tf.matmul(x, kernel), bias)
        flat = _with_bias(tf.matmul(tf.reshape(x, [-1, kernel.shape[0]]), kernel), bias)
        return tf.reshape(flat, [-1, *x.shape[1:-1], kernel.shape[1]])
    padding = layer.padding.upper()
    if kernels.is_depthwise(layer):
        return _with_bias(_depthwise(x, kernel, layer.strides, padding, layer.dilation_rate), bias)
    return _with_bias(tf.nn.conv2d(x, kernel, layer.strides, padding, dilations=layer.dilation_rate), bias)


def _with_bias(x: Any, bias: np.ndarray) -> Any:
    return tf.nn.bias_add(x, tf.constant(bias.astype(np.float32))) if bias.any() else x


def _depthwise(x: Any, kernel: Any, strides: Any, padding: str, dilations: Any) -> Any:
    """The raw operator: tf.nn.depthwise_conv2d writes dilation as SPACE_TO_BATCH_ND, which stays in the file."""
    return tf.raw_ops.DepthwiseConv2dNative(
        input=x, filter=kernel, strides=[1, *strides, 1], padding=padding, dilations=[1, *dilations, 1]
    )


def _tiles(size: Any, window: Any, strides: Any) -> bool:
    """Whether SAME windows cover a map without padding."""
    return all(s is not None and (-(-s // d) - 1) * d + w <= s for s, w, d in zip(size, window, strides, strict=True))


def _kernel_variable(layer: keras.layers.Layer) -> Any:
    weights = wrappers.quantized_weights(layer)
    if weights:
        return weights[0].variable
    inner = wrappers.inner(layer)
    return getattr(inner, kernels.attribute(inner))


def kernel_record(layer: keras.layers.Layer, batch_norm: keras.layers.Layer | None) -> Kernel | None:
    """The integers of a kernel layer with its batch norm folded; None when its weights are not quantized.

    derived: factor = gamma / sqrt(variance + epsilon); a weight factor * (n * s) is (sign(factor) * n) *
    (|factor| * s) and the bias beta + factor * (b - mean). A channel of factor 0 gets zeros and keeps its scale, which
    has to be positive.
    """
    weights = wrappers.quantized_weights(layer)
    if not weights:
        return None
    integers = weights[0].quantizer.integer_weights(weights[0].variable.numpy(), weights[0].variables)
    scale, bias = integers.scale.astype(np.float64), _own_bias(layer)
    columns = integers.values.reshape(-1, len(scale))
    if batch_norm is not None:
        factor, shift = fold_of(layer, batch_norm)
        alive = np.abs(factor) * scale > np.finfo(np.float32).tiny
        columns = columns * np.where(alive, np.sign(factor), 0).astype(np.int8)
        scale, bias = np.where(alive, np.abs(factor), 1) * scale, shift
    return Kernel(
        name=naming.plain_name(layer),
        columns=columns.astype(np.int8),
        scale=scale.astype(np.float32),
        bias=bias,
        branches=integers.branches,
        bits=integers.bits,
    )


def _own_bias(layer: keras.layers.Layer) -> np.ndarray:
    bias = wrappers.bias(layer)
    if bias is not None:
        return np.asarray(bias, np.float64)
    return np.zeros(kernels.channels(wrappers.inner(layer), _kernel_variable(layer).shape))


def fold_of(layer: keras.layers.Layer, batch_norm: keras.layers.Layer | None) -> tuple[np.ndarray, np.ndarray]:
    """(factor, bias) of a kernel layer with that batch norm, or None, behind it; float64 [M]."""
    bias = _own_bias(layer)
    if batch_norm is None:
        return np.ones(len(bias)), bias
    factor, offset = affine(wrappers.inner(batch_norm))
    return factor, factor * bias + offset


def _float_kernel(layer: keras.layers.Layer, batch_norm: keras.layers.Layer | None) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a layer whose weights stay float, batch norm folded."""
    kernel = np.asarray(_kernel_variable(layer), np.float64)
    factor, shift = fold_of(layer, batch_norm)
    return kernels.scale_outputs(wrappers.inner(layer), kernel, factor), shift
