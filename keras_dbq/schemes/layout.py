"""The layout transform: rewrites layers into ones with an integer form, and plans exactly one fake-quant per tensor.

Rewrites (each exact in float):
  SeparableConv2D                    -> DepthwiseConv2D `<name>_depthwise`, Conv2D 1x1 `<name>`
  kernel layer with softmax, tanh ...-> the layer without it, Activation `<name>_<activation>`
  Rescaling, Normalization and batch norm without a kernel layer before it -> DepthwiseConv2D 1x1 with bias, 8 bit
  AveragePooling2D over the whole map -> GlobalAveragePooling2D (a mean has an output range of its own in TFLite)
  model input                        -> input, QuantizeTensor
  operator on Keras tensors, Lambda  -> the same, QuantizeTensor where its output has a range of its own (tfmot's
                                        wrapper takes no function layers)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.network import graph, roles
from keras_dbq.network.roles import FIXED, FOLD, IDENTITY, JOIN, RELU, SAME_RANGE, SUM, UNSUPPORTED, WEIGHTS
from keras_dbq.prepare import folding
from keras_dbq.wrapping.layers import QuantizeTensor

L = keras.layers
TENSOR_PREFIX = "quantize_"


@dataclass
class Step:
    """What happens to one layer of the rewritten model.

    role: see `layer_roles`.  quantize_output: whether this layer carries the output's quantizer.
    unsigned: the output is never negative.
    first: a kernel layer with no kernel layer before it.  last: no kernel layer after it.
    """

    layer: keras.layers.Layer
    role: str
    quantize_output: bool = False
    unsigned: bool = False
    first: bool = False
    last: bool = False
    rewritten_from: str = ""


@dataclass
class Rewritten:
    """A model after the rewrites, and {new layer's name: (old layer's name, what was done)}."""

    model: keras.Model
    origin: dict[str, tuple[str, str]]


def rewrite(model: keras.Model, quantized: set[str], quantize_tensor: Any) -> Rewritten:
    """Applies the rewrites to the layers named in `quantized`; all layers are copied with their weights.

    Args:
      model: flat functional or Sequential model.
      quantized: names of the layers that are to be quantized; others are copied as they are.
      quantize_tensor: (name of the input or function layer, Step or None) -> a QuantizeTensor layer.
    """
    origin: dict[str, tuple[str, str]] = {}
    later: list[Any] = []  # weights can be set once the new layers are built
    standalone = _standalone_batch_norms(model)
    planner = _Planner(model, quantized)
    carried = {
        step.layer.name: step
        for step in planner.steps()
        if step.quantize_output and roles.is_function_layer(step.layer)
    }

    def replace(layer: keras.layers.Layer) -> Any:
        if layer.name in carried:
            return _then(_copied(layer, later), quantize_tensor(layer.name, carried[layer.name]))
        if layer.name not in quantized:
            return _copied(layer, later)
        if isinstance(layer, L.SeparableConv2D):
            return _split_separable(layer, origin, later)
        if roles.is_kernel_layer(layer) and not roles.fused_activation(layer):
            return _split_activation(layer, origin, later)
        if isinstance(layer, (L.Rescaling, L.Normalization)) or id(layer) in standalone:
            return _affine_as_depthwise(layer, origin, later)
        if isinstance(layer, L.AveragePooling2D) and _covers_map(layer):
            origin[layer.name] = (layer.name, "average pooling over the whole map, as a mean")
            return L.GlobalAveragePooling2D(data_format=layer.data_format, keepdims=True, name=layer.name)
        return _copied(layer, later)

    def on_input(tensor: Any, name: str) -> Any:
        old = next(t for t, layer in zip(model.inputs, graph.input_layers(model), strict=True) if layer.name == name)
        return quantize_tensor(name, None)(tensor) if id(old) in planner.read else tensor

    result = graph.rebuild(model, replace, on_input)
    for set_weights in later:
        set_weights()
    return Rewritten(result, origin)


def _then(first: Any, second: Any) -> Any:
    return lambda *args, **kwargs: second(first(*args, **kwargs))


def _copied(layer: keras.layers.Layer, later: list[Any]) -> keras.layers.Layer:
    new = graph.clone(layer)
    new.trainable = layer.trainable
    later.append(lambda: graph.copy_weights([(layer, new)]))
    return new


def _split_separable(layer: Any, origin: dict[str, tuple[str, str]], later: list[Any]) -> Any:
    depthwise = L.DepthwiseConv2D(
        layer.kernel_size,
        strides=layer.strides,
        padding=layer.padding,
        depth_multiplier=layer.depth_multiplier,
        dilation_rate=layer.dilation_rate,
        use_bias=False,
        depthwise_regularizer=layer.depthwise_regularizer,
        name=layer.name + "_depthwise",
    )
    pointwise = L.Conv2D(
        layer.filters, 1, use_bias=layer.use_bias, kernel_regularizer=layer.pointwise_regularizer, name=layer.name
    )
    origin[depthwise.name] = origin[layer.name] = (layer.name, "separable convolution, split")

    def set_weights() -> None:
        depthwise.set_weights(layer.get_weights()[:1])
        pointwise.set_weights(layer.get_weights()[1:])

    later.append(set_weights)
    activation = _activation_layer(layer, origin)
    if activation is None:
        pointwise.activation = layer.activation
        return _then(depthwise, pointwise)
    return _then(_then(depthwise, pointwise), activation)


def _activation_layer(layer: Any, origin: dict[str, tuple[str, str]]) -> keras.layers.Layer | None:
    """An Activation layer for what TFLite cannot fuse into the kernel, or None."""
    if roles.fused_activation(layer):
        return None
    name = roles.activation_name(layer.activation)
    new = L.Activation(layer.activation, name=f"{layer.name}_{name}")
    origin[new.name] = (layer.name, f"activation {name}, split off")
    return new


def _split_activation(layer: Any, origin: dict[str, tuple[str, str]], later: list[Any]) -> Any:
    activation = _activation_layer(layer, origin)
    config = layer.get_config()
    config["activation"] = "linear"
    linear = layer.__class__.from_config(config)
    linear.trainable = layer.trainable
    later.append(lambda: graph.copy_weights([(layer, linear)]))
    return _then(linear, activation)


def _affine_as_depthwise(layer: Any, origin: dict[str, tuple[str, str]], later: list[Any]) -> Any:
    """scale * x + offset per channel as a 1x1 depthwise convolution, for four-dimensional inputs."""
    shape = layer.input_shape
    if len(shape) != 4:
        return _copied(layer, later)
    new = L.DepthwiseConv2D(1, use_bias=True, name=layer.name)
    new.trainable = isinstance(layer, L.BatchNormalization) and layer.trainable
    origin[layer.name] = (layer.name, f"{type(layer).__name__} as a 1x1 depthwise convolution")

    def set_weights() -> None:
        scale, offset = _affine(layer)
        channels = shape[-1]
        new.set_weights(
            [
                np.broadcast_to(scale, (channels,)).reshape(1, 1, channels, 1).astype(np.float32),
                np.broadcast_to(offset, (channels,)).astype(np.float32),
            ]
        )

    later.append(set_weights)
    return new


def _affine(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset of a Rescaling, Normalization or BatchNormalization layer at inference, float64."""
    if isinstance(layer, L.Rescaling):
        return np.asarray(layer.scale, np.float64), np.asarray(layer.offset, np.float64)
    if isinstance(layer, L.Normalization):
        mean, variance = np.asarray(layer.mean, np.float64), np.asarray(layer.variance, np.float64)
        scale = 1 / np.maximum(np.sqrt(variance), keras.backend.epsilon())
        scale, offset = (1 / scale, mean) if getattr(layer, "invert", False) else (scale, -mean * scale)
        return scale.reshape(-1), offset.reshape(-1)
    return folding.affine(layer)


def _covers_map(layer: Any) -> bool:
    height, width = layer.input_shape[1:3] if layer.data_format == "channels_last" else (None, None)
    return (height, width) == tuple(layer.pool_size)


def _standalone_batch_norms(model: keras.Model) -> set[int]:
    """Ids of batch norm layers that do not follow a kernel layer which feeds them alone."""
    consumers, outputs = graph.consumers(model), graph.output_ids(model)
    folded: set[int] = set()
    every: set[int] = set()
    for node in graph.nodes(model):
        if not isinstance(node.layer, L.BatchNormalization):
            continue
        every.add(id(node.layer))
        tensor = tf.nest.flatten(node.keras_inputs)[0]
        producer = tensor._keras_history.layer
        linear = roles.activation_name(getattr(producer, "activation", None) or keras.activations.linear)
        if (
            (roles.is_kernel_layer(producer) or isinstance(producer, L.SeparableConv2D))
            and linear == "linear"
            and len(consumers[id(tensor)]) == 1
            and id(tensor) not in outputs
        ):
            folded.add(id(node.layer))
    return every - folded


def plan(model: keras.Model, quantized: set[str]) -> list[Step]:
    """One Step per layer of a rewritten model, in execution order.

    Args:
      model: the result of `rewrite`.
      quantized: names of its layers that are to be quantized.

    derived: a tensor gets a quantizer where its integer operator ends: after the last layer of a fused chain
    (kernel, batch norm, ReLU), not after layers that keep their input's range, and once for a concatenation and the
    inputs that feed nothing else.
    """
    return _Planner(model, quantized).steps()


class _Planner:
    def __init__(self, model: keras.Model, quantized: set[str]):
        self.nodes = graph.nodes(model)
        self.consumers = graph.consumers(model)
        self.outputs = graph.output_ids(model)
        self.quantized = quantized
        self.roles = {id(node): roles.role(node) for node in self.nodes}
        self.unsigned: dict[int, bool] = {}
        self.chain_quantized: dict[int, bool] = {}  # tensor id -> a quantized layer belongs to its fused chain
        self.fused: set[int] = set()  # ids of tensors inside a fused chain
        self.read: set[int] = self._read_by_quantized()

    def _read_by_quantized(self) -> set[int]:
        """Ids of tensors that a quantized layer reads, directly or through layers that keep the range."""
        read: set[int] = set()
        for node in reversed(self.nodes):
            passes = self.roles[id(node)] in (SAME_RANGE, IDENTITY)
            if node.layer.name in self.quantized or (
                passes and any(id(tensor) in read for tensor in tf.nest.flatten(node.outputs))
            ):
                read.update(id(tensor) for tensor in tf.nest.flatten(node.keras_inputs))
        return read

    def steps(self) -> list[Step]:
        steps: dict[str, Step] = {}
        for node in self.nodes:
            step = self._step(node)
            known = steps.setdefault(node.layer.name, step)
            # A shared layer: one quantizer serves all its calls if any call needs it.
            known.quantize_output |= step.quantize_output
            known.unsigned &= step.unsigned
        self._mark_ends(steps)
        return list(steps.values())

    def _step(self, node: Any) -> Step:
        layer, role = node.layer, self.roles[id(node)]
        inputs = tf.nest.flatten(node.keras_inputs)
        output = tf.nest.flatten(node.outputs)[0]
        unsigned = self._never_negative(node, role, inputs)
        for tensor in tf.nest.flatten(node.outputs):
            self.unsigned[id(tensor)] = unsigned
        in_chain = layer.name in self.quantized or any(
            id(t) in self.fused and self.chain_quantized.get(id(t)) for t in inputs
        )
        self.chain_quantized[id(output)] = in_chain
        return Step(layer, role, self._quantizes(node, role, output, in_chain), unsigned)

    def _never_negative(self, node: Any, role: str, inputs: list[Any]) -> bool:
        layer = node.layer
        if role == RELU or roles.unsigned_output(layer):
            return True
        if isinstance(layer, QuantizeTensor):
            return layer.quantizer.unsigned
        if role in (WEIGHTS, FOLD, UNSUPPORTED, FIXED):
            return False
        if role in (SAME_RANGE, IDENTITY, JOIN) and roles.is_function_layer(layer):
            return False
        if role in (SAME_RANGE, IDENTITY, JOIN) or isinstance(
            layer, (L.Add, L.Multiply, L.Average, L.Maximum, L.AveragePooling2D, L.GlobalAveragePooling2D)
        ):
            return all(self.unsigned.get(id(tensor), False) for tensor in inputs)
        return False

    def _quantizes(self, node: Any, role: str, output: Any, in_chain: bool) -> bool:
        """Whether an integer operator ends at this output. (`explain` gives the reasons, from the finished model.)"""
        readers = self.consumers.get(id(output), [])
        if isinstance(node.layer, QuantizeTensor) or not (in_chain or id(output) in self.read):
            return False
        if role in (SAME_RANGE, IDENTITY):
            return False
        if len(readers) != 1 or id(output) in self.outputs:
            return True
        reader, next_role = readers[0].layer, self.roles[id(readers[0])]
        if isinstance(reader, QuantizeTensor):
            return False
        if self._fuses(node, role, next_role):
            self.fused.add(id(output))
            return False
        return not (next_role == JOIN and role != FIXED and reader.name in self.quantized)

    def _fuses(self, node: Any, role: str, next_role: str) -> bool:
        if role == WEIGHTS:
            linear = roles.activation_name(node.layer.activation) == "linear"
            return linear and next_role in (FOLD, RELU)
        return role in (FOLD, SUM) and next_role == RELU

    def _mark_ends(self, steps: dict[str, Step]) -> None:
        """Sets `first` (kernel layers only) and `last`: no kernel layer before, after (rewritten affine layers do not
        count)."""
        after: dict[int, bool] = {}
        for node in self.nodes:
            seen = any(after.get(id(t), False) for t in tf.nest.flatten(node.keras_inputs))
            if self._counts(node):
                steps[node.layer.name].first |= not seen
                seen = True
            after.update({id(t): seen for t in tf.nest.flatten(node.outputs)})
        before: dict[int, bool] = {}
        for node in reversed(self.nodes):
            seen = any(before.get(id(t), False) for t in tf.nest.flatten(node.outputs))
            if node.layer.name in steps:
                steps[node.layer.name].last |= not seen
            seen |= self._counts(node)
            for tensor in tf.nest.flatten(node.keras_inputs):
                before[id(tensor)] = before.get(id(tensor), False) or seen

    def _counts(self, node: Any) -> bool:
        layer = node.layer
        affine = isinstance(layer, L.DepthwiseConv2D) and tuple(layer.kernel_size) == (1, 1)
        return self.roles[id(node)] == WEIGHTS and not affine
