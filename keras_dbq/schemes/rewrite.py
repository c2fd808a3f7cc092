"""Rewrites a float network into layers that have an integer form; each rewrite is exact in float.

SeparableConv2D                    -> DepthwiseConv2D `<name>_depthwise`, Conv2D 1x1 `<name>`
kernel layer with softmax, tanh ...-> the layer without it, Activation `<name>_<activation>`
Rescaling, Normalization and batch norm that folds into nothing -> DepthwiseConv2D 1x1 with bias, 8 bit; where the
                                      channels are not the last of four axes, between Permute and Reshape layers
AveragePooling2D over the whole map -> GlobalAveragePooling2D (a mean has an output range of its own in TFLite)
Add, Multiply of three and more    -> one after the other
model input                        -> input, QuantizeTensor
operator on Keras tensors, Lambda  -> the same, QuantizeTensor where its output has a range of its own (tfmot's
                                      wrapper takes no function layers)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from keras_dbq.compat import keras
from keras_dbq.network import batch_norm, channels, graph, kernels, roles
from keras_dbq.network.graph import Graph, inputs
from keras_dbq.schemes.plan import Plan, Step

L = keras.layers
TENSOR_PREFIX = "quantize_"
Call = Callable[..., Any]


class Origin(NamedTuple):
    """Where a layer comes from.

    layer: name of the user's layer.  note: what was done, a phrase.
    affine: the layer is a factor and an offset per channel.
    """

    layer: str
    note: str
    affine: bool = False


@dataclass
class Rewritten:
    """A model after the rewrites, and {name of a new layer: where it comes from}."""

    model: keras.Model
    origin: dict[str, Origin]


def rewrite(model: keras.Model, quantized: set[str]) -> Rewritten:
    """Applies the rewrites to the layers named in `quantized`; all layers are copied with their weights.

    Args:
      model: flat functional or Sequential model.
      quantized: names of the layers that are to be quantized; others are copied as they are.
    """
    return _Rewriter(model, quantized).run()


def insert_quantizers(model: keras.Model, plan: Plan, quantize_tensor: Callable[[str, Step | None], Any]) -> Any:
    """The model with a QuantizeTensor behind its inputs and behind function layers, where the plan has one.

    Args:
      model: the model that was planned; its layers are shared, function layers copied.
      plan: of `schemes.plan`.
      quantize_tensor: (name of the input or function layer, Step or None) -> a QuantizeTensor layer.
    """
    carried = {s.layer.name: s for s in plan.steps if s.quantize_output and roles.is_function_layer(s.layer)}

    def replace(layer: keras.layers.Layer) -> Any:
        if not roles.is_function_layer(layer):
            return layer
        new, step = graph.clone(layer), carried.get(layer.name)  # Keras calls a function layer once
        return new if step is None else _then(new, quantize_tensor(layer.name, step))

    def on_input(tensor: Any, name: str) -> Any:
        return quantize_tensor(name, None)(tensor) if name in plan.inputs else tensor

    return graph.rebuild(model, replace, on_input)


class _Rewriter:
    def __init__(self, model: keras.Model, quantized: set[str]):
        self.model, self.quantized = model, quantized
        self.graph = Graph(model)
        self.folded = {id(norm) for norm in batch_norm.folds(self.graph).values()}
        self.origin: dict[str, Origin] = {}
        self.later: list[Callable[[], None]] = []  # weights can be set once the new layers are built
        self.taken_in = self._activations_taken_in()

    def run(self) -> Rewritten:
        result = graph.rebuild(self.model, self._replace)
        for set_weights in self.later:
            set_weights()
        return Rewritten(result, self.origin)

    def _replace(self, layer: keras.layers.Layer) -> Call:
        if layer.name not in self.quantized:
            return self._copied(layer)
        if any(layer is activation for activation in self.taken_in.values()):
            return _nothing
        if isinstance(layer, L.SeparableConv2D):
            return self._split_separable(layer)
        if kernels.is_kernel_layer(layer) and not roles.fused_activation(layer):
            return self._split_activation(layer)
        if self._is_affine(layer):
            return self._affine(layer)
        if isinstance(layer, L.AveragePooling2D) and self._covers_map(layer):
            self.origin[layer.name] = Origin(layer.name, "average pooling over the whole map, as a mean")
            return L.GlobalAveragePooling2D(data_format=layer.data_format, keepdims=True, name=layer.name)
        if type(layer) in (L.Add, L.Multiply) and any(len(inputs(n)) > 2 for n in self.graph.calls(layer)):
            return self._in_pairs(layer)
        return self._copied(layer)

    def _copied(self, layer: keras.layers.Layer, **changed: Any) -> keras.layers.Layer:
        """A layer with the same weights, and the same config but for what is changed."""
        new = layer.__class__.from_config({**layer.get_config(), **changed})
        new.trainable = layer.trainable
        self.later.append(lambda: graph.copy_weights([(layer, new)]))
        return new

    # convolutions and activations

    def _split_separable(self, layer: Any) -> Call:
        depthwise = L.DepthwiseConv2D(
            layer.kernel_size,
            strides=layer.strides,
            padding=layer.padding,
            depth_multiplier=layer.depth_multiplier,
            data_format=layer.data_format,
            dilation_rate=layer.dilation_rate,
            use_bias=False,
            depthwise_regularizer=layer.depthwise_regularizer,
            name=layer.name + "_depthwise",
        )
        pointwise = L.Conv2D(
            layer.filters,
            1,
            use_bias=layer.use_bias,
            data_format=layer.data_format,
            kernel_regularizer=layer.pointwise_regularizer,
            name=layer.name,
        )
        depthwise.trainable = pointwise.trainable = layer.trainable
        self.origin[depthwise.name] = self.origin[layer.name] = Origin(layer.name, "separable convolution, split")
        self.later.append(lambda: depthwise.set_weights(layer.get_weights()[:1]))
        self.later.append(lambda: pointwise.set_weights(layer.get_weights()[1:]))
        if roles.fused_activation(layer):
            pointwise.activation = layer.activation
            return _then(depthwise, pointwise)
        return _then(_then(depthwise, pointwise), self._activation(layer))

    def _activation(self, layer: Any) -> keras.layers.Layer:
        """An Activation layer for what TFLite cannot fuse into the kernel."""
        name = roles.activation_name(layer.activation)
        new = L.Activation(layer.activation, name=f"{layer.name}_{name}")
        self.origin[new.name] = Origin(layer.name, f"activation {name}, split off")
        return new

    def _split_activation(self, layer: Any) -> Call:
        return _then(self._copied(layer, activation="linear"), self._activation(layer))

    def _covers_map(self, layer: Any) -> bool:
        if layer.data_format != "channels_last":
            return False
        maps = {tuple(inputs(node)[0].shape[1:3]) for node in self.graph.calls(layer)}
        ends = {tuple(node.output_shapes[1:3]) for node in self.graph.calls(layer)}
        return maps == {tuple(layer.pool_size)} and ends == {(1, 1)}

    def _in_pairs(self, layer: Any) -> Call:
        """a + b + c as (a + b) + c: the file has operators of two inputs, and each sum has a range of its own."""
        count = max(len(inputs(node)) for node in self.graph.calls(layer))
        names = [*(f"{layer.name}_{i}" for i in range(1, count - 1)), layer.name]
        new = [type(layer)(name=name) for name in names]
        note = f"{type(layer).__name__} of {count} tensors, in pairs"
        self.origin.update({name: Origin(layer.name, note) for name in names})

        def call(tensors: Any, **_: Any) -> Any:
            total = tensors[0]
            for operator, tensor in zip(new[count - len(tensors) :], tensors[1:], strict=True):
                total = operator([total, tensor])
            return total

        return call

    # a factor and an offset per channel

    def _is_affine(self, layer: Any) -> bool:
        loose = isinstance(layer, L.BatchNormalization) and id(layer) not in self.folded
        return loose or isinstance(layer, (L.Rescaling, L.Normalization))

    def _affine(self, layer: Any) -> Call:
        """scale * x + offset as a 1x1 depthwise convolution."""
        activation = self.taken_in.get(id(layer))
        new = L.DepthwiseConv2D(1, use_bias=True, activation=_function_of(activation), name=layer.name)
        new.trainable = isinstance(layer, L.BatchNormalization) and layer.trainable
        note = f"{type(layer).__name__} as a 1x1 depthwise convolution" + (", with its ReLU" if activation else "")
        self.origin[layer.name] = Origin(layer.name, note, affine=True)
        self.later.append(lambda: new.set_weights(_depthwise_weights(layer, new)))
        calls = iter(range(1, 1 + len(self.graph.calls(layer))))

        def call(x: Any, **_: Any) -> Any:
            number = next(calls)
            around = _Around(layer, x, "" if number == 1 else f"_{number}")
            for name in around.names:
                self.origin[name] = Origin(layer.name, "brings the channels to the last of four axes, or back")
            return around(new, x)

        return call

    def _activations_taken_in(self) -> dict[int, Any]:
        """{id of an affine layer: the ReLU behind it}: where a Reshape would stand between them in the file."""
        found = {}
        for node in self.graph.nodes:
            layer = node.layer
            if layer.name not in self.quantized or not self._is_affine(layer) or len(self.graph.calls(layer)) > 1:
                continue
            reader = self.graph.only_reader(node)
            plain = reader is not None and not roles.is_function_layer(reader.layer)
            if plain and not _is_plain(layer, inputs(node)[0]) and self._can_be_taken_in(reader.layer):
                found[id(layer)] = reader.layer
        return found

    def _can_be_taken_in(self, layer: Any) -> bool:
        once = len(self.graph.calls(layer)) == 1 and layer.name in self.quantized
        return once and channels.crossing(layer) in ("relu", "relu6")


def _nothing(x: Any, **_: Any) -> Any:
    return x


def _then(first: Any, second: Any) -> Call:
    return lambda *args, **kwargs: second(first(*args, **kwargs))


def _function_of(activation: Any) -> Any:
    return None if activation is None else keras.activations.get(channels.crossing(activation))


def _axes(layer: Any, rank: int) -> tuple[int, ...]:
    """Axes of the parameters of a Rescaling, Normalization or BatchNormalization layer; ascending."""
    if isinstance(layer, L.BatchNormalization):
        return batch_norm.axes(layer, rank)
    given = getattr(layer, "axis", None) or (-1,)  # a scalar holds for every channel
    return tuple(sorted(axis % rank for axis in given))


def _is_plain(layer: Any, tensor: Any) -> bool:
    """Whether the channels are the last of four axes already."""
    return len(tensor.shape) == 4 and _axes(layer, 4) == (3,)


class _Around:
    """Brings the axes with parameters to the last of four axes, and back behind the layer.

    derived: Permute and Reshape only move values, so the file keeps their codes.
    """

    def __init__(self, layer: Any, tensor: Any, ending: str):
        rank, axes = len(tensor.shape), _axes(layer, len(tensor.shape))
        order = [*(a for a in range(1, rank) if a not in axes), *axes]
        sizes = [tensor.shape[a] for a in order]
        self.first: list[Any] = []
        self.second: list[Any] = []
        if order != sorted(order):
            back = [order.index(a) + 1 for a in range(1, rank)]
            self.first.append(L.Permute(order, name=f"{layer.name}_permute{ending}"))
            self.second.append(L.Permute(back, name=f"{layer.name}_permute_back{ending}"))
        if rank != 4 or len(axes) != 1:
            self._check_sizes(layer, sizes)
            width = int(np.prod(sizes[len(sizes) - len(axes) :]))
            self.first.append(L.Reshape((-1, 1, width), name=f"{layer.name}_reshape{ending}"))
            self.second.insert(0, L.Reshape(sizes, name=f"{layer.name}_reshape_back{ending}"))

    @staticmethod
    def _check_sizes(layer: Any, sizes: list[Any]) -> None:
        if None in sizes:
            raise ValueError(
                f"layer {layer.name!r} of type {type(layer).__name__}: expected an input of fixed size, got {sizes}; "
                "give the model's Input a shape without None"
            )

    @property
    def names(self) -> list[str]:
        """Of the layers."""
        return [layer.name for layer in (*self.first, *self.second)]

    def __call__(self, layer: Any, x: Any) -> Any:
        for step in (*self.first, layer, *self.second):
            x = step(x)
        return x


def _depthwise_weights(layer: Any, depthwise: Any) -> list[np.ndarray]:
    """Kernel and bias of the 1x1 depthwise convolution that stands for an affine layer."""
    shape = depthwise.depthwise_kernel.shape
    scale, offset = (np.broadcast_to(v, (shape[2],)).astype(np.float32) for v in _factor_and_offset(layer))
    return [scale.reshape(shape), offset]


def _factor_and_offset(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset of a Rescaling, Normalization or BatchNormalization layer at inference, float64."""
    if isinstance(layer, L.Rescaling):
        return np.asarray(layer.scale, np.float64), np.asarray(layer.offset, np.float64)
    if isinstance(layer, L.BatchNormalization):
        return batch_norm.affine(layer)
    mean, variance = np.asarray(layer.mean, np.float64), np.asarray(layer.variance, np.float64)
    scale = 1 / np.maximum(np.sqrt(variance), keras.backend.epsilon())
    scale, offset = (1 / scale, mean) if getattr(layer, "invert", False) else (scale, -mean * scale)
    return scale.reshape(-1), offset.reshape(-1)
