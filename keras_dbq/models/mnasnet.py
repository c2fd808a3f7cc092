"""MNasNet (the network B1 of the paper, without squeeze and excitation) in plain Keras layers."""

from __future__ import annotations

from typing import Any

from keras_dbq.compat import keras
from keras_dbq.models import blocks

# Tan et al., "MnasNet", arXiv 1807.11626: (kernel, first stride, expansion, channels, repeats) of each stage.
STAGES = (
    (3, 2, 3, 24, 3),
    (5, 2, 3, 40, 3),
    (5, 2, 6, 80, 3),
    (3, 1, 6, 96, 2),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM_CHANNELS, SEPARABLE_CHANNELS, HEAD_CHANNELS = 32, 16, 1280


def scaled_to_eight(channels: int, alpha: float) -> int:
    """channels * alpha, rounded to a multiple of 8, and up where that would take away more than a tenth."""
    wanted = channels * alpha
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


def mnasnet(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
    alpha: float = 1.0,
    batch_norm_momentum: float = 0.9997,
) -> Any:
    """MNasNet: a stem, a separable block, six stages of inverted bottlenecks, a head, a dense layer.

    Layers are named `conv`, `separable_depthwise`, `separable_project`, `stage{s}.{u}.expand`, `.depthwise`, `.project`
    (s from 1, u from 0), with `_bn` behind each and `_relu` behind all but the projections, `.add`, `head`, `pool` and
    `logits`.

    Args:
      input_shape: (height, width, channels) of the pictures.
      classes: number of logits.
      alpha: width multiplier, such as 1.0 or 1.3; the head keeps 1,280 channels.
      batch_norm_momentum: momentum of the moving averages; epsilon is 1e-5.

    Raises:
      ValueError: alpha is not positive.
    """
    if not alpha > 0:
        raise ValueError(f"alpha: expected a positive width multiplier, got {alpha}; use 1.0 or 1.3")
    layers = _Layers(batch_norm_momentum)
    inputs = keras.Input(input_shape, name="image")
    x = layers.conv(inputs, scaled_to_eight(STEM_CHANNELS, alpha), 3, 2, "conv")
    x = layers.depthwise(x, 3, 1, "separable_depthwise")
    x = layers.conv(x, scaled_to_eight(SEPARABLE_CHANNELS, alpha), 1, 1, "separable_project", relu=False)
    for stage, (size, first, expansion, channels, repeats) in enumerate(STAGES, start=1):
        for i in range(repeats):
            width, name = scaled_to_eight(channels, alpha), f"stage{stage}.{i}"
            y = layers.conv(x, x.shape[-1] * expansion, 1, 1, f"{name}.expand")
            y = layers.depthwise(y, size, first if i == 0 else 1, f"{name}.depthwise")
            y = layers.conv(y, width, 1, 1, f"{name}.project", relu=False)
            x = keras.layers.Add(name=f"{name}.add")([x, y]) if i else y
    x = layers.conv(x, HEAD_CHANNELS, 1, 1, "head")
    return blocks.classifier(inputs, x, classes, "logits", "mnasnet")


class _Layers:
    """A convolution with its batch norm, and its ReLU where it has one."""

    def __init__(self, momentum: float):
        self.momentum = momentum

    def conv(self, x: Any, channels: int, size: int, stride: int, name: str, relu: bool = True) -> Any:
        layer = keras.layers.Conv2D(channels, size, stride, padding="same", use_bias=False, name=name)
        x = blocks.norm(layer(x), f"{name}_bn", 1e-5, self.momentum)
        return blocks.relu(x, f"{name}_relu") if relu else x

    def depthwise(self, x: Any, size: int, stride: int, name: str) -> Any:
        layer = keras.layers.DepthwiseConv2D(size, stride, padding="same", use_bias=False, name=name)
        return blocks.relu(blocks.norm(layer(x), f"{name}_bn", 1e-5, self.momentum), f"{name}_relu")
