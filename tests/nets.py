"""Small networks, one per trait, that the tests quantize."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

import keras_dbq
from keras_dbq.compat import keras, tf
from keras_dbq.network import graph

L = keras.layers
SHAPE = (16, 16, 3)


def pictures(count: int = 64, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Numbers that the test draws itself, float32 [count, *shape]."""
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def randomize(model: Any, seed: int = 0) -> Any:
    """Gives batch norm statistics and biases values that matter."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            randomize(layer, seed + 1)
        elif isinstance(layer, L.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights(
                [
                    rng.uniform(0.5, 1.5, gamma.shape) * rng.choice([-1, 1], gamma.shape, p=[0.2, 0.8]),
                    rng.normal(0, 0.3, beta.shape),
                    rng.normal(0, 0.3, mean.shape),
                    rng.uniform(0.3, 2, variance.shape),
                ]
            )
        elif getattr(layer, "use_bias", False) and layer.weights:
            *kernels, bias = layer.get_weights()
            layer.set_weights([*kernels, rng.normal(0, 0.1, bias.shape)])
    return model


def _conv_bn(x: Any, filters: int, name: str, size: int = 3, strides: int = 1, relu: bool = True) -> Any:
    x = L.Conv2D(filters, size, strides=strides, padding="same", use_bias=False, name=name)(x)
    x = L.BatchNormalization(name=name + "_bn")(x)
    return L.ReLU(name=name + "_relu")(x) if relu else x


def mobilenet_v1() -> Any:
    """Conv, depthwise, pointwise with batch norm and ReLU6, average pooling, softmax."""
    inputs = x = keras.Input(SHAPE, name="image")
    x = L.ReLU(6.0)(_conv_bn(x, 8, "stem", strides=2, relu=False))
    for i, filters in enumerate((8, 16)):
        x = L.DepthwiseConv2D(3, strides=1 + i, padding="same", use_bias=False, name=f"dw{i}")(x)
        x = L.ReLU(6.0)(L.BatchNormalization()(x))
        x = L.ReLU(6.0)(_conv_bn(x, filters, f"pw{i}", size=1, relu=False))
    x = L.Flatten()(L.AveragePooling2D(x.shape[1:3])(x))
    return randomize(keras.Model(inputs, L.Dense(4, activation="softmax", name="head")(x), name="v1"))


def resnet() -> Any:
    """Residual additions, a strided shortcut without weights, logits."""
    inputs = keras.Input(SHAPE, name="image")
    x = _conv_bn(inputs, 8, "stem")
    for i, strides in enumerate((1, 2)):
        y = _conv_bn(x, 8, f"a{i}", strides=strides)
        y = _conv_bn(y, 8, f"b{i}", relu=False)
        x = x if strides == 1 else L.MaxPooling2D(1, strides=2)(x)
        x = L.ReLU(name=f"out{i}")(L.Add(name=f"add{i}")([x, y]))
    return randomize(keras.Model(inputs, L.Dense(5, name="head")(L.GlobalAveragePooling2D()(x)), name="resnet"))


def mobilenet_v3() -> Any:
    """Hard swish written with operators, squeeze-and-excitation, Rescaling, Dropout."""
    inputs = keras.Input(SHAPE, name="image")
    x = _conv_bn(L.Rescaling(1 / 2.0, offset=0.1)(inputs), 8, "stem", relu=False)
    x = L.Multiply()([x, L.ReLU(6.0)(x + 3.0) * (1 / 6)])
    s = L.GlobalAveragePooling2D(keepdims=True)(x)
    s = L.Conv2D(8, 1, activation="relu", name="squeeze")(s)
    s = L.Activation("sigmoid")(L.Conv2D(8, 1, name="excite")(s))
    x = L.Multiply(name="scale")([x, s])
    x = _conv_bn(x, 8, "project", size=1, relu=False)
    x = L.Dropout(0.2)(L.GlobalAveragePooling2D()(x))
    return randomize(keras.Model(inputs, L.Dense(4, name="head")(x), name="v3"))


def shufflenet() -> Any:
    """Split, concatenate, channel shuffle by reshape and transpose, two outputs of one tensor."""
    inputs = keras.Input(SHAPE, name="image")
    x = _conv_bn(inputs, 8, "stem", strides=2)
    left, right = tf.split(x, 2, axis=-1)
    right = _conv_bn(right, 4, "right", size=1)
    x = L.Concatenate(name="join")([left, right])
    x = L.Reshape((8, 8, 2, 4))(x)
    x = L.Permute((1, 2, 4, 3))(x)
    x = L.Reshape((8, 8, 8))(x)
    x = _conv_bn(x, 8, "last_conv", size=1)
    return randomize(keras.Model(inputs, L.Dense(3, name="head")(L.GlobalAveragePooling2D()(x)), name="shuffle"))


def preactivation() -> Any:
    """Batch norm and ReLU before the convolution: a batch norm that no kernel layer precedes."""
    inputs = keras.Input(SHAPE, name="image")
    x = L.Conv2D(8, 3, padding="same", name="stem")(inputs)
    y = L.ReLU(name="r1")(L.BatchNormalization(name="b1")(x))
    y = L.Conv2D(8, 3, padding="same", name="c1")(y)
    x = L.Add(name="add")([x, y])
    y = L.ReLU(name="r2")(L.BatchNormalization(name="b2")(x))
    x = L.MaxPooling2D()(y)
    return randomize(keras.Model(inputs, L.Dense(3, name="head")(L.Flatten()(x)), name="preact"))


def separable() -> Any:
    """SeparableConv2D, dilation, depth multiplier, average pooling of a part of the map."""
    inputs = keras.Input(SHAPE, name="image")
    x = L.SeparableConv2D(8, 3, depth_multiplier=2, activation="relu", name="sep0")(inputs)
    x = L.SeparableConv2D(8, 3, padding="same", name="sep1")(x)
    x = L.LeakyReLU(0.125)(L.BatchNormalization()(x))
    x = L.AveragePooling2D(2)(x)
    x = L.Conv2D(8, 3, dilation_rate=2, padding="same", activation="relu6", name="dilated")(x)
    return randomize(keras.Model(inputs, L.Dense(3, name="head")(L.GlobalAveragePooling2D()(x)), name="separable"))


def nested() -> Any:
    """A backbone as a nested model and a Sequential head."""
    backbone_input = keras.Input(SHAPE)
    features = _conv_bn(_conv_bn(backbone_input, 8, "conv"), 8, "conv_b")
    backbone = keras.Model(backbone_input, features, name="backbone")
    head = keras.Sequential(
        [
            L.InputLayer(features.shape[1:]),
            L.GlobalAveragePooling2D(),
            L.Dense(8, activation="relu", name="hidden"),
            L.Dense(3, name="logits"),
        ],
        name="head",
    )
    inputs = keras.Input(SHAPE, name="image")
    return randomize(keras.Model(inputs, head(backbone(inputs)), name="nested"))


def sequential() -> Any:
    """A Sequential model with activations inside the layers."""
    return randomize(
        keras.Sequential(
            [
                L.Conv2D(8, 3, activation="relu", input_shape=SHAPE, name="stem"),
                L.MaxPooling2D(),
                L.Conv2D(8, 3, activation="relu", name="middle"),
                L.Flatten(),
                L.Dense(3, activation="softmax", name="head"),
            ],
            name="sequential",
        )
    )


ALL = (mobilenet_v1, resnet, mobilenet_v3, shufflenet, preactivation, separable, nested, sequential)


def all_layers(model: Any) -> list[Any]:
    """Layers of a model and of those nested in it, in order."""
    parts = [all_layers(layer) if isinstance(layer, keras.Model) else [layer] for layer in model.layers]
    return [layer for part in parts for layer in part]


def learnable(classes: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(pictures, labels) of a task that can be learnt: a pattern of blocks per class, and noise."""
    rng = np.random.default_rng(17)
    patterns = np.kron(rng.normal(size=(classes, 4, 4, 3)), np.ones((1, 4, 4, 1))) + rng.normal(size=(classes, 1, 1, 3))
    labels = np.random.default_rng(seed).integers(0, classes, count)
    return (0.8 * pictures(count, seed + 1) + patterns[labels]).astype(np.float32), labels


def teach(model: Any, x: np.ndarray, y: np.ndarray) -> Any:
    """Solves a task without training: true batch norm statistics, and the last layer by ridge regression."""
    norms = [layer for layer in all_layers(model) if isinstance(layer, L.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    model(x, training=True)
    for norm in norms:
        norm.momentum = 0.99
    flat = graph.flat_copy(model)
    features = keras.Model(flat.inputs, flat.layers[-1].input)(x).numpy()
    mean, deviation = features.mean(0), features.std(0) + 0.05 * features.std()
    z, targets = (features - mean) / deviation, np.eye(model.output_shape[-1])[y]
    ridge = z.T @ z + 0.1 * len(x) * np.eye(z.shape[1])
    kernel = 4 * np.linalg.solve(ridge, z.T @ (targets - targets.mean(0))) / deviation[:, None]
    all_layers(model)[-1].set_weights([kernel, -mean @ kernel])
    return model


def quantize(model: Any, data: Any = None, **options: Any) -> Any:
    """A float network quantized with DBQScheme(**options), calibrated on `pictures()` or other data."""
    return keras_dbq.quantize_model(model, keras_dbq.DBQScheme(**options), pictures() if data is None else data)


@functools.cache
def quantized(make: Callable[[], Any]) -> Any:
    """One of `ALL` quantized with DBQScheme(), once per session; whoever changes a model quantizes one of his own.

    48 pictures: too few for batch norm to be measured again, so that the float function stays.
    """
    keras.utils.set_random_seed(0)
    return quantize(make(), pictures(48))
