"""VGG-small and AlexNet as two-step quantization takes them: convolution, batch norm, ReLU, max-pooling.

Max-pooling stands behind the ReLU. ReLU and codes never fall, so that gives the numbers of the papers' pooling before
it.
"""

from __future__ import annotations

from typing import Any

from keras_dbq.compat import keras

VGG_WIDTHS = (128, 128, 256, 256, 512, 512)
# Krizhevsky et al., NIPS 2012, without groups: (channels, kernel, stride, padding, max-pooling behind it).
ALEXNET_LAYERS = (
    (96, 11, 4, "valid", True),
    (256, 5, 1, "same", True),
    (384, 3, 1, "same", False),
    (384, 3, 1, "same", False),
    (256, 3, 1, "same", True),
)
ALEXNET_HIDDEN = (4096, 4096)


def vgg_small(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    alpha: float = 1.0,
    affine: bool = False,
    batch_norm_momentum: float = 0.9,
) -> Any:
    """VGG-small: six 3x3 convolutions, max-pooling behind every second one, a dense layer.

    source of the widths: HWGQ (Cai et al., CVPR 2017) on CIFAR-10. Layers are named `conv{i}`, `bn{i}`, `relu{i}` (i
    from 1), `pool{i}` behind 2, 4 and 6, and `logits`.

    Args:
      input_shape: (height, width, channels); 32 x 32 for CIFAR-10.
      classes: number of logits.
      alpha: width multiplier; 0.25 trains on a machine with two cores.
      affine: whether batch norm has scale and shift; `TSQScheme` with Gaussian codes asks for neither.
      batch_norm_momentum: momentum of the moving averages; epsilon is 1e-5.

    Raises:
      ValueError: alpha is not positive, or a size under 8 pixels.
    """
    if not alpha > 0:
        raise ValueError(f"alpha: expected a positive width multiplier, got {alpha}; use 0.25, 0.5 or 1.0")
    if min(input_shape[:2]) < 8:
        raise ValueError(f"input_shape: expected at least 8 x 8 pixels, got {input_shape}")
    inputs = x = keras.Input(input_shape, name="image")
    for i, width in enumerate(VGG_WIDTHS, start=1):
        layer = keras.layers.Conv2D(max(round(width * alpha), 1), 3, padding="same", use_bias=False, name=f"conv{i}")
        x = _norm_relu(layer(x), str(i), affine, batch_norm_momentum)
        if i % 2 == 0:
            x = keras.layers.MaxPooling2D(2, name=f"pool{i}")(x)
    x = keras.layers.Dense(classes, name="logits")(keras.layers.Flatten(name="flatten")(x))
    return keras.Model(inputs, x, name="vgg_small")


def alexnet(
    input_shape: tuple[int, int, int] = (227, 227, 3),
    classes: int = 1000,
    affine: bool = False,
    batch_norm_momentum: float = 0.9,
) -> Any:
    """AlexNet with batch norm, without local response normalisation, groups and dropout: 5 convolutions, 3 dense.

    Layers are named `conv{i}` (i from 1), with `bn{i}`, `relu{i}` and, behind 1, 2 and 5, `pool{i}` (3x3, stride 2);
    then `fc6`, `bn6`, `relu6`, `fc7`, `bn7`, `relu7` and `logits`.

    Args:
      input_shape: (height, width, channels), at least 67 pixels on each side.
      classes: number of logits.
      affine, batch_norm_momentum: as of `vgg_small`.

    Raises:
      ValueError: a size under 67 pixels.
    """
    if min(input_shape[:2]) < 67:
        raise ValueError(f"input_shape: expected at least 67 x 67 pixels, got {input_shape}")
    inputs = x = keras.Input(input_shape, name="image")
    for i, (channels, size, stride, padding, pooled) in enumerate(ALEXNET_LAYERS, start=1):
        layer = keras.layers.Conv2D(channels, size, stride, padding=padding, use_bias=False, name=f"conv{i}")
        x = _norm_relu(layer(x), str(i), affine, batch_norm_momentum)
        x = keras.layers.MaxPooling2D(3, 2, name=f"pool{i}")(x) if pooled else x
    x = keras.layers.Flatten(name="flatten")(x)
    for i, width in enumerate(ALEXNET_HIDDEN, start=len(ALEXNET_LAYERS) + 1):
        dense = keras.layers.Dense(width, use_bias=False, name=f"fc{i}")
        x = _norm_relu(dense(x), str(i), affine, batch_norm_momentum)
    return keras.Model(inputs, keras.layers.Dense(classes, name="logits")(x), name="alexnet")


def _norm_relu(x: Any, ending: str, affine: bool, momentum: float) -> Any:
    norm = keras.layers.BatchNormalization(
        epsilon=1e-5, momentum=momentum, scale=affine, center=affine, name=f"bn{ending}"
    )
    return keras.layers.ReLU(name=f"relu{ending}")(norm(x))
