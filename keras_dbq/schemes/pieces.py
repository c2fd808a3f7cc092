"""Layers as several layers, each of which is one operator of the file; the float function stays."""

from typing import Any

import numpy as np

from keras_dbq.compat import SlicingOpLambda, TFOpLambda, keras
from keras_dbq.network import graph, kernels, roles
from keras_dbq.network.graph import inputs
from keras_dbq.schemes.affine import around
from keras_dbq.schemes.rewriting import Call, Rewriting, then

L = keras.layers


def split_separable(rewriting: Rewriting, layer: Any) -> Call | None:
    """SeparableConv2D -> DepthwiseConv2D `<name>_depthwise`, Conv2D 1x1 `<name>`."""
    if not isinstance(layer, L.SeparableConv2D):
        return None
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
    rewriting.comes_from(layer, "separable convolution, split", depthwise.name, pointwise.name)
    rewriting.later(lambda: depthwise.set_weights(layer.get_weights()[:1]))
    rewriting.later(lambda: pointwise.set_weights(layer.get_weights()[1:]))
    if roles.fused_activation(layer):
        pointwise.activation = layer.activation
        return then(depthwise, pointwise)
    return then(depthwise, pointwise, _activation(rewriting, layer))


def split_activation(rewriting: Rewriting, layer: Any) -> Call | None:
    """A kernel layer with softmax, tanh, ... -> the layer without it, Activation `<name>_<activation>`."""
    if not kernels.is_kernel_layer(layer) or roles.fused_activation(layer):
        return None
    return then(rewriting.copied(layer, activation="linear"), _activation(rewriting, layer))


def _activation(rewriting: Rewriting, layer: Any) -> keras.layers.Layer:
    """An Activation layer for what TFLite cannot fuse into the kernel."""
    name = roles.activation_name(layer.activation)
    new = L.Activation(layer.activation, name=f"{layer.name}_{name.strip('<>')}")
    rewriting.comes_from(layer, f"activation {name}, split off", new.name)
    return new


def mean_over_map(rewriting: Rewriting, layer: Any) -> Call | None:
    """AveragePooling2D over the whole map -> GlobalAveragePooling2D: a mean has a range of its own in TFLite."""
    if not isinstance(layer, L.AveragePooling2D) or layer.data_format != "channels_last":
        return None
    maps = {tuple(inputs(node)[0].shape[1:3]) for node in rewriting.graph.calls(layer)}
    ends = {tuple(node.output_shapes[1:3]) for node in rewriting.graph.calls(layer)}
    if maps != {tuple(layer.pool_size)} or ends != {(1, 1)}:
        return None
    rewriting.comes_from(layer, "average pooling over the whole map, as a mean")
    return L.GlobalAveragePooling2D(data_format=layer.data_format, keepdims=True, name=layer.name)


def centre(rewriting: Rewriting, layer: Any) -> Call | None:
    """CenterCrop of a map that is large enough -> Cropping2D (of a smaller one it would resize)."""
    if not isinstance(layer, L.CenterCrop):
        return None
    sizes = {tuple(inputs(node)[0].shape[-3:-1]) for node in rewriting.graph.calls(layer)}
    rest = [(size[0] - layer.height, size[1] - layer.width) for size in sizes if None not in size]
    if len(sizes) != 1 or not rest or min(rest[0]) < 0:
        return None
    rewriting.comes_from(layer, "cropping in the middle")
    return L.Cropping2D([(r // 2, r - r // 2) for r in rest[0]], name=layer.name)


def in_pairs(rewriting: Rewriting, layer: Any) -> Call | None:
    """a + b + c as (a + b) + c: the file has operators of two inputs, and each sum has a range of its own.

    Maximum and Minimum as well; Average of n tensors is their sum, and a Rescaling by 1 / n behind it.
    """
    count = max((len(inputs(node)) for node in rewriting.graph.calls(layer)), default=0)
    average = type(layer) is L.Average
    if type(layer) not in (L.Add, L.Multiply, L.Maximum, L.Minimum) or count <= 2:
        if not average:
            return None
    kind = L.Add if average else type(layer)
    names = [f"{layer.name}_{i}" for i in range(1, count)]
    names = names if average else [*names[:-1], layer.name]
    new = [kind(name=name) for name in names]
    rewriting.comes_from(layer, f"{type(layer).__name__} of {count} tensors, in pairs", *names)
    factor = _constant_factor(rewriting, layer, 1 / count) if average else None

    def call(tensors: Any, **_: Any) -> Any:
        total = tensors[0]
        for operator, tensor in zip(new[count - len(tensors) :], tensors[1:], strict=True):
            total = operator([total, tensor])
        return total if factor is None else factor(total)

    return call


def _constant_factor(rewriting: Rewriting, layer: Any, value: float) -> Call:
    """The layer's output times a number, as a 1x1 depthwise convolution called `<name>`."""
    new = L.DepthwiseConv2D(
        1, use_bias=False, depthwise_initializer=keras.initializers.Constant(value), name=layer.name
    )
    new.trainable = False
    rewriting.comes_from(layer, f"times {value:.4g}, as a 1x1 depthwise convolution", affine=True)
    return around(rewriting, layer, lambda rank: (rank - 1,), new)


def slopes(rewriting: Rewriting, layer: Any) -> Call | None:
    """PReLU, max(x, 0) + a min(x, 0), as x + (1 - a) max(-x, 0): two 1x1 depthwise convolutions and a sum."""
    if not isinstance(layer, L.PReLU):
        return None
    negative = L.DepthwiseConv2D(
        1, use_bias=False, activation="relu", depthwise_initializer=keras.initializers.Constant(-1.0),
        name=f"{layer.name}_negative",
    )  # fmt: skip
    slope = L.DepthwiseConv2D(1, use_bias=False, name=f"{layer.name}_slope")
    total = L.Add(name=layer.name)
    negative.trainable, slope.trainable = False, layer.trainable
    rewriting.comes_from(layer, "PReLU as x + (1 - a) max(-x, 0)", total.name)
    rewriting.comes_from(layer, "PReLU as x + (1 - a) max(-x, 0)", negative.name, slope.name, affine=True)
    rewriting.later(lambda: slope.set_weights([1 - np.reshape(layer.get_weights()[0], slope.depthwise_kernel.shape)]))
    shared = tuple(layer.shared_axes or ())
    own = [axis for axis in range(1, len(layer.alpha.shape) + 1) if axis not in shared]
    turned = around(rewriting, layer, lambda rank: tuple(own), then(negative, slope))
    return lambda x, **_: total([x, turned(x)])


def operators_one_by_one(rewriting: Rewriting, layer: Any) -> Call | None:
    """A Lambda, or a layer without weights that nobody here knows, as one layer for each operator that it calls."""
    calls = rewriting.graph.calls(layer)
    unknown = calls and all(roles.role(node) == roles.UNSUPPORTED for node in calls)
    if not unknown or not roles.counts_by_operators(layer) or isinstance(layer, (TFOpLambda, SlicingOpLambda)):
        return None
    mode, whole = {"training": False} if layer._expects_training_arg else {}, rewriting.copied(layer)

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            result = layer.call(*args, **{**kwargs, **mode})
            new = graph.between((args, kwargs), result)
        except Exception:  # whatever the user's function does not do with Keras tensors: it stays as it is
            new = []
        if not new or any(roles.role(node) == roles.UNSUPPORTED for node in new):
            return whole(*args, **kwargs)
        rewriting.comes_from(layer, "written as one layer for each operator", *(node.layer.name for node in new))
        return result

    return call


# (rewriting, layer) -> what is called in its place; None where the rule is for other layers.
RULES = (split_separable, split_activation, mean_over_map, centre, in_pairs, slopes, operators_one_by_one)
