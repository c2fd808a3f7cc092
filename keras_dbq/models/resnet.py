"""The CIFAR ResNets (He et al., arXiv 1512.03385), shortcut A, in plain Keras layers."""

from __future__ import annotations

from typing import Any

from keras_dbq.compat import keras
from keras_dbq.models import blocks

STAGE_WIDTHS = (16, 32, 64)


def _shortcut_a(x: Any, width: int, name: str) -> Any:
    """Every second pixel of x [N, H, W, width/2], its channels padded by width/4 zeros on both sides.

    choice: max-pooling over 1 x 1 with stride 2 subsamples, and zero padding of the channel axis is done on the view
    [N, H*W, C, 1]; all are stock layers that save, load and convert to int8 without arithmetic.
    """
    x = keras.layers.MaxPooling2D(1, strides=2, name=f"{name}_subsample")(x)
    _, height, columns, channels = x.shape
    pad = (width - channels) // 2
    x = keras.layers.Reshape((height * columns, channels, 1), name=f"{name}_flatten")(x)
    x = keras.layers.ZeroPadding2D(((0, 0), (pad, pad)), name=f"{name}_pad")(x)
    return keras.layers.Reshape((height, columns, width), name=f"{name}_unflatten")(x)


def resnet_cifar(
    depth: int = 20,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    batch_norm_momentum: float = 0.9,
) -> Any:
    """ResNet of `depth` = 6n + 2 layers: three stages of n blocks with 16, 32, 64 channels, two 3x3 layers a block.

    Layers are named `conv1`, `bn1`, `layer{s}.{b}.conv1`, `.bn1`, `.conv2`, `.bn2` (s from 1, b from 0), `linear`;
    strided convolutions pad one pixel on every side (as PyTorch does), so published weights fit.

    Args:
      depth: 8, 14, 20, 32, 44, 56 ...
      input_shape: (height, width, channels); height and width divisible by 4.
      classes: number of logits.
      batch_norm_momentum: momentum of the moving averages; epsilon is 1e-5.
    Returns:
      a functional Keras model, float32 [N, height, width, channels] -> logits [N, classes].
    Raises:
      ValueError: depth is not 6n + 2, or a size is not divisible by 4.
    """
    blocks_per_stage, rest = divmod(depth - 2, 6)
    if blocks_per_stage < 1 or rest:
        raise ValueError(f"depth: expected 6n + 2 with n >= 1, got {depth}; use 8, 14, 20, 32, 44 or 56")
    if input_shape[0] % 4 or input_shape[1] % 4:
        raise ValueError(f"input_shape: expected height and width divisible by 4, got {input_shape}; resize or pad")

    def conv_norm(x: Any, width: int, stride: int, conv: str, norm: str) -> Any:
        padding = "same"
        if stride != 1:  # SAME would pad (0, 1) here
            x, padding = keras.layers.ZeroPadding2D(1, name=f"{conv}_pad")(x), "valid"
        x = keras.layers.Conv2D(width, 3, stride, padding=padding, use_bias=False, name=conv)(x)
        return blocks.norm(x, norm, 1e-5, batch_norm_momentum)

    inputs = keras.Input(input_shape, name="image")
    x = blocks.relu(conv_norm(inputs, STAGE_WIDTHS[0], 1, "conv1", "bn1"), "relu1")
    for stage, width in enumerate(STAGE_WIDTHS, start=1):
        for block in range(blocks_per_stage):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = conv_norm(x, width, stride, f"{name}.conv1", f"{name}.bn1")
            y = blocks.relu(y, f"{name}.relu1")
            y = conv_norm(y, width, 1, f"{name}.conv2", f"{name}.bn2")
            shortcut = x if stride == 1 else _shortcut_a(x, width, f"{name}.shortcut")
            x = blocks.relu(keras.layers.Add(name=f"{name}.add")([shortcut, y]), f"{name}.relu2")
    return blocks.classifier(inputs, x, classes, "linear", f"resnet{depth}")
