"""A small quantized network without batch norm, and its data, for tests that train."""

import numpy as np

import keras_dbq
from keras_dbq.compat import keras

L = keras.layers
SHAPE = (8, 8, 3)
CLASSES = 4


def network(end="logits"):
    """Convolution, depthwise, pointwise, pooling, dense; `end`: "logits", "softmax" or "sigmoid" (one output)."""
    inputs = keras.Input(SHAPE, name="image")
    x = L.Conv2D(6, 3, activation="relu", name="stem")(inputs)
    x = L.DepthwiseConv2D(3, padding="same", activation="relu6", name="depthwise")(x)
    x = L.GlobalAveragePooling2D()(L.ReLU()(L.Conv2D(8, 1, name="pointwise")(x)))
    activation = None if end == "logits" else end
    return keras.Model(inputs, L.Dense(1 if end == "sigmoid" else CLASSES, activation, name="head")(x), name="small")


def data(count=48):
    """(pictures, labels)."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, *SHAPE)).astype(np.float32), rng.integers(0, CLASSES, count)


def pair(scheme=None, end="logits"):
    """(quantized model, float model), the same each time; 4 bit linear weights on trained thresholds by default."""
    keras.utils.set_random_seed(1)
    model = network(end)
    return keras_dbq.quantize_model(model, scheme or keras_dbq.FATScheme(bits=4), calibration_data=data()[0]), model
