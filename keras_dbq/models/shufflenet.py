"""ShuffleNetV2 in plain Keras layers; the channel shuffle only moves values, so the file keeps their codes."""

from __future__ import annotations

from typing import Any

from keras_dbq.compat import keras
from keras_dbq.models import blocks

# Ma et al., "ShuffleNet V2", arXiv 1807.11164, table 5: channels of the stages and of the last convolution.
WIDTHS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
STEM_CHANNELS, REPEATS = 24, (4, 8, 4)


def shufflenet_v2(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
    alpha: float = 1.0,
    batch_norm_momentum: float = 0.9,
) -> Any:
    """ShuffleNetV2: a stem, three stages of units, a last 1x1 convolution, global average pooling, a dense layer.

    A unit's second half of channels goes through 1x1, depthwise 3x3 and 1x1 convolution, the first half passes (in the
    first unit of a stage both do more, with stride 2); then the channels of both are shuffled. Layers are named
    `conv1`, `stage{s}.{u}.conv1`, `.depthwise`, `.conv2`, `.left_depthwise`, `.left_conv` (s from 2, u from 0; with
    `_bn` and `_relu` behind), `.concat`, `.shuffle`, `conv5`, `pool` and `logits`.

    Args:
      input_shape: (height, width, channels); height and width divisible by 32.
      classes: number of logits.
      alpha: width, one of 0.5, 1.0, 1.5, 2.0.
      batch_norm_momentum: momentum of the moving averages; epsilon is 1e-5.

    Raises:
      ValueError: another alpha, or a size that is not divisible by 32.
    """
    if alpha not in WIDTHS:
        raise ValueError(f"alpha: expected one of {', '.join(map(str, WIDTHS))}, got {alpha}")
    if input_shape[0] % 32 or input_shape[1] % 32:
        raise ValueError(f"input_shape: expected height and width divisible by 32, got {input_shape}; resize or pad")
    unit = _Units(batch_norm_momentum)
    inputs = keras.Input(input_shape, name="image")
    x = unit.conv(inputs, STEM_CHANNELS, 3, 2, "conv1")
    x = keras.layers.MaxPooling2D(3, 2, padding="same", name="maxpool")(x)
    *stages, last = WIDTHS[alpha]
    for stage, (channels, repeats) in enumerate(zip(stages, REPEATS, strict=True), start=2):
        x = unit.strided(x, channels // 2, f"stage{stage}.0")
        for i in range(1, repeats):
            x = unit.plain(x, channels // 2, f"stage{stage}.{i}")
    return blocks.classifier(inputs, unit.conv(x, last, 1, 1, "conv5"), classes, "logits", "shufflenet_v2")


class _Units:
    """The units; `channels` are those of one half."""

    def __init__(self, momentum: float):
        self.momentum = momentum

    def plain(self, x: Any, channels: int, name: str) -> Any:
        return self._shuffled(x[..., :channels], self._right(x[..., channels:], channels, 1, name), name)

    def strided(self, x: Any, channels: int, name: str) -> Any:
        left = self._depthwise(x, 2, f"{name}.left_depthwise")
        left = self.conv(left, channels, 1, 1, f"{name}.left_conv")
        return self._shuffled(left, self._right(x, channels, 2, name), name)

    def conv(self, x: Any, channels: int, size: int, stride: int, name: str) -> Any:
        layer = keras.layers.Conv2D(channels, size, stride, padding="same", use_bias=False, name=name)
        return blocks.relu(blocks.norm(layer(x), f"{name}_bn", 1e-5, self.momentum), f"{name}_relu")

    def _right(self, x: Any, channels: int, stride: int, name: str) -> Any:
        x = self._depthwise(self.conv(x, channels, 1, 1, f"{name}.conv1"), stride, f"{name}.depthwise")
        return self.conv(x, channels, 1, 1, f"{name}.conv2")

    def _depthwise(self, x: Any, stride: int, name: str) -> Any:
        layer = keras.layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False, name=name)
        return blocks.norm(layer(x), f"{name}_bn", 1e-5, self.momentum)

    def _shuffled(self, left: Any, right: Any, name: str) -> Any:
        """Channel i of the one half, channel i of the other, and so on."""
        x = keras.layers.Concatenate(name=f"{name}.concat")([left, right])
        _, height, width, channels = x.shape
        x = keras.layers.Reshape((height * width, 2, channels // 2), name=f"{name}.shuffle_split")(x)
        x = keras.layers.Permute((1, 3, 2), name=f"{name}.shuffle")(x)
        return keras.layers.Reshape((height, width, channels), name=f"{name}.shuffle_join")(x)
