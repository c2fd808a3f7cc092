"""MobileNetV1 and MobileNetV2 in plain Keras layers."""

from __future__ import annotations

from typing import Any

from keras_dbq.compat import keras
from keras_dbq.models import blocks

# Howard et al., "MobileNets", arXiv 1704.04861: (channels at alpha = 1, stride) of each separable block.
V1_BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)
# Sandler et al., "MobileNetV2", arXiv 1801.04381: (expansion, channels, repeats, first stride) of each stage.
V2_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
V2_STEM_CHANNELS, V2_HEAD_CHANNELS = 32, 1280


def scaled_channels(channels: int, alpha: float, minimum: int = 8) -> int:
    """MobileNetV1's width rule: `channels * alpha`, cut to an integer, at least `minimum`."""
    return max(int(channels * alpha), minimum)


def mobilenet_v1(
    input_shape: tuple[int, int, int] = (96, 96, 3),
    classes: int = 2,
    alpha: float = 0.25,
    activation: str = "relu6",
    batch_norm_momentum: float = 0.99,
    stem_stride: int = 2,
) -> Any:
    """MobileNetV1: a stem convolution and 13 depthwise separable blocks, global average pooling, a dense layer.

    Layers are named `conv`, `conv_bn`, `conv_relu`, `block{i}_depthwise`, `block{i}_pointwise` (i from 1; with `_bn`
    and `_relu` behind each), `pool` and `logits`.

    Args:
      input_shape: (height, width, channels) of the pictures.
      classes: number of logits.
      alpha: width multiplier; a layer has max(int(channels * alpha), 8) channels.
      activation: "relu6" (the paper's) or "relu".
      batch_norm_momentum: momentum of the moving averages; epsilon is 1e-3.
      stem_stride: stride of the first convolution; 1 suits pictures of about 32 x 32 pixels.
    Returns:
      a functional Keras model, float32 [N, height, width, channels] -> logits [N, classes].
    Raises:
      ValueError: an unknown activation, or alpha that is not positive.
    """
    if not alpha > 0:
        raise ValueError(f"alpha: expected a positive width multiplier, got {alpha}; use 0.25, 0.5, 0.75 or 1.0")

    def norm_relu(x: Any, name: str) -> Any:
        x = blocks.norm(x, f"{name}_bn", 1e-3, batch_norm_momentum)
        return blocks.relu(x, f"{name}_relu", activation)

    def conv(x: Any, channels: int, size: int, stride: int, name: str) -> Any:
        layer = keras.layers.Conv2D(
            scaled_channels(channels, alpha), size, stride, padding="same", use_bias=False, name=name
        )
        return norm_relu(layer(x), name)

    inputs = keras.Input(input_shape, name="image")
    x = conv(inputs, 32, 3, stem_stride, "conv")
    for i, (channels, stride) in enumerate(V1_BLOCKS, start=1):
        name = f"block{i}_depthwise"
        x = keras.layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False, name=name)(x)
        x = conv(norm_relu(x, name), channels, 1, 1, f"block{i}_pointwise")
    return blocks.classifier(inputs, x, classes, "logits", "mobilenet_v1")


def mobilenet_v2(input_shape: tuple[int, int, int] = (224, 224, 3), classes: int = 1000) -> Any:
    """MobileNetV2 1.0 with batch norm folded away: every convolution has a bias, ReLU6 between.

    choice: strided layers use SAME padding. On even sizes it pads (0, 1), as the explicit padding layers of other
    Keras versions of this network do, so their weights fit.

    Layers are named `conv`, `block{i}_expand`, `block{i}_depthwise`, `block{i}_project` (i from 0; `_relu` behind the
    first two), `block{i}_add`, `head`, `pool` and `logits`.

    Returns: a functional Keras model, float32 [N, height, width, channels] -> logits [N, classes].
    """

    def relu6(x: Any, name: str) -> Any:
        return blocks.relu(x, f"{name}_relu", "relu6")

    def conv(x: Any, channels: int, size: int, stride: int, name: str) -> Any:
        return keras.layers.Conv2D(channels, size, stride, padding="same", name=name)(x)

    inputs = keras.Input(input_shape, name="image")
    x = relu6(conv(inputs, V2_STEM_CHANNELS, 3, 2, "conv"), "conv")
    block = 0
    for expansion, channels, repeats, first_stride in V2_STAGES:
        for repeat in range(repeats):
            name, stride, y = f"block{block}", first_stride if repeat == 0 else 1, x
            if expansion != 1:
                y = relu6(conv(y, expansion * x.shape[-1], 1, 1, f"{name}_expand"), f"{name}_expand")
            y = keras.layers.DepthwiseConv2D(3, stride, padding="same", name=f"{name}_depthwise")(y)
            y = conv(relu6(y, f"{name}_depthwise"), channels, 1, 1, f"{name}_project")
            x = keras.layers.Add(name=f"{name}_add")([x, y]) if repeat else y
            block += 1
    x = relu6(conv(x, V2_HEAD_CHANNELS, 1, 1, "head"), "head")
    return blocks.classifier(inputs, x, classes, "logits", "mobilenet_v2")
