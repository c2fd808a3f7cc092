"""Layers with a kernel: which axes of it are output and input channels, and how it is seen as columns.

Conv2D (h, w, C, M), Dense (K, M): output channels are the last axis. DepthwiseConv2D (h, w, C, multiplier): output
channels are the last two, the multiplier fastest. Input channels are the last axis but one in every kernel.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from keras_dbq.compat import keras

L = keras.layers
TYPES = (L.Conv2D, L.DepthwiseConv2D, L.Dense)


def is_kernel_layer(layer: keras.layers.Layer) -> bool:
    """Conv2D, DepthwiseConv2D or Dense itself (a subclass means something else)."""
    return type(layer) in TYPES


def is_depthwise(layer: keras.layers.Layer) -> bool:
    """Whether every output channel reads one input channel."""
    return type(layer) is L.DepthwiseConv2D


def is_affine(layer: keras.layers.Layer) -> bool:
    """Whether the layer is a factor and an offset per channel only: a depthwise convolution of one place."""
    return is_depthwise(layer) and tuple(layer.kernel_size) == (1, 1)


def mixes_channels(layer: keras.layers.Layer) -> bool:
    """Whether each input channel meets a row of weights of its own, and all of them are summed."""
    return type(layer) in (L.Conv2D, L.Dense) and getattr(layer, "groups", 1) == 1


def attribute(layer: keras.layers.Layer) -> str:
    """Name of the layer's attribute that holds the kernel."""
    return "depthwise_kernel" if is_depthwise(layer) else "kernel"


def channel_shape(layer: keras.layers.Layer, shape: Any) -> tuple[int, ...]:
    """Axes of the output channels, at the end of a kernel of this shape: (M,), or (C, multiplier)."""
    return tuple(shape)[-2:] if is_depthwise(layer) else tuple(shape)[-1:]


def channels(layer: keras.layers.Layer, shape: Any) -> int:
    """Number M of output channels of a kernel of this shape."""
    return int(np.prod(channel_shape(layer, shape)))


def columns(layer: keras.layers.Layer, kernel: np.ndarray) -> np.ndarray:
    """The kernel as [K, M]: one output channel is one column."""
    return kernel.reshape(-1, channels(layer, kernel.shape))


def rows(kernel: np.ndarray) -> np.ndarray:
    """The kernel as [C, taps, M]: what reads input channel c is [c]."""
    return np.moveaxis(kernel.reshape(-1, *kernel.shape[-2:]), 0, 1)


def from_rows(rows_: np.ndarray, shape: Any) -> np.ndarray:
    """The inverse of `rows`."""
    return np.moveaxis(rows_, 1, 0).reshape(shape)


def scale_outputs(layer: keras.layers.Layer, kernel: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """The kernel with each output channel times its factor [M]."""
    return kernel * factors.reshape(channel_shape(layer, kernel.shape))


def scale_inputs(kernel: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """The kernel with what reads each input channel times its factor [C]."""
    return kernel * factors[:, None]


@contextmanager
def without_activation(layer: keras.layers.Layer) -> Iterator[None]:
    """A plain kernel layer gives its linear output for a while, before its own activation."""
    activation, layer.activation = layer.activation, keras.activations.linear
    try:
        yield
    finally:
        layer.activation = activation
