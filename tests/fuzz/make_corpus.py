"""Writes the small files that the fuzzer damages: int8 files of the stock converter, and our packed and int8 exports.

Usage, from the repository root: python -m tests.fuzz.make_corpus

They are committed, so that the same seed damages the same bytes whatever converter is installed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import keras_dbq
from keras_dbq.compat import keras, tf

L = keras.layers
SHAPE = (6, 6, 3)
CORPUS = Path(__file__).parent / "corpus"


def joins() -> keras.Model:
    """Convolutions, depthwise, padding, pools, ADD, MUL, CONCATENATION, MEAN, dense, softmax."""
    inputs = x = keras.Input(SHAPE, name="image")
    x = L.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="stem")(x)
    y = L.DepthwiseConv2D(3, name="depthwise")(L.ZeroPadding2D(name="pad")(x))
    y = L.Add(name="add")([x, L.Conv2D(4, 1, name="point")(y)])
    y = L.Multiply(name="mul")([y, L.Activation("sigmoid", name="gate")(x)])
    z = L.MaxPooling2D(2, strides=1, padding="same", name="max")(y)
    x = L.Concatenate(name="join")([y, z])
    x = L.AveragePooling2D(2, strides=1, name="average")(x)
    x = L.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(inputs, L.Dense(3, activation="softmax", name="head")(x), name="joins")


def moves() -> keras.Model:
    """RESHAPE, TRANSPOSE, STRIDED_SLICE, SPLIT, PACK, RESIZE_NEAREST_NEIGHBOR, DEPTH_TO_SPACE, MIRROR_PAD, GATHER."""
    inputs = keras.Input(SHAPE, name="image")
    x = L.Conv2D(4, 1, name="stem")(inputs)
    x = tf.transpose(x, (0, 2, 1, 3))[:, 1:, ::2]
    x = L.Reshape((5, 3, 2, 2))(x)
    a, b = tf.split(x, 2, axis=3)
    x = L.Reshape((5, 3, 4))(tf.stack([b, a], axis=3))
    x = tf.nn.depth_to_space(L.UpSampling2D(2)(x), 2)
    x = tf.gather(tf.pad(x, ((0, 0), (1, 2), (2, 1), (0, 0)), mode="REFLECT"), (3, 1, 0), axis=1)
    return keras.Model(inputs, L.Dense(2, name="head")(L.Flatten()(x)), name="moves")


def activations() -> keras.Model:
    """Functions of one value, SUB, MAXIMUM, PRELU, a transposed and a dilated convolution, two inputs, two outputs."""
    first, second = keras.Input(SHAPE, name="first"), keras.Input(SHAPE, name="second")
    x = L.LeakyReLU(0.1)(L.Conv2D(2, 2, dilation_rate=2, name="dilated")(first))
    y = L.PReLU(shared_axes=[1, 2])(L.Conv2DTranspose(2, 2, strides=2, name="up")(second))
    x = tf.maximum(tf.tanh(x), y[:, 4:8, 4:8] - x)
    return keras.Model([first, second], [L.Flatten(name="flat")(x), L.Activation("elu")(y)], name="activations")


def stock_int8(model: keras.Model) -> bytes:
    """What the stock converter makes of the float model."""
    rng = np.random.default_rng(0)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        [rng.normal(size=(1, *i.shape[1:])).astype(np.float32) for i in model.inputs] for _ in range(8)
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def counts(x: np.ndarray) -> None:
    """A packed file of format version 2: a convolution and a dense layer that count thresholds."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input(SHAPE, name="image")
    y = L.Conv2D(4, 3, activation="relu", name="stem")(inputs)
    y = L.Flatten(name="flat")(L.Conv2D(4, 2, activation="relu", name="wide")(y))
    y = L.Dense(4, activation="relu", name="hidden")(y)
    model = keras.Model(inputs, L.Dense(3, name="head")(y), name="counts")
    scheme = keras_dbq.TSQScheme(2, 0.6, codes="data", init="least_error")
    q_model = keras_dbq.quantize_model(model, scheme, calibration_data=x)
    keras_dbq.export_tflite(q_model, CORPUS / "counts_packed.tflite", "packed")


def main() -> None:
    CORPUS.mkdir(exist_ok=True)
    x = np.random.default_rng(0).normal(size=(16, *SHAPE)).astype(np.float32)
    networks: list[Callable[[], keras.Model]] = [joins, moves, activations]
    for build in networks:
        keras.utils.set_random_seed(1)
        (CORPUS / f"{build.__name__}_stock.tflite").write_bytes(stock_int8(build()))
    counts(x)
    for branches in (1, 2):
        keras.utils.set_random_seed(1)
        q_model = keras_dbq.quantize_model(joins(), keras_dbq.DBQScheme(branches=branches), calibration_data=x)
        keras_dbq.export_tflite(q_model, CORPUS / f"joins_packed_{branches}.tflite", "packed")
    keras_dbq.export_tflite(q_model, CORPUS / "joins_int8.tflite", "int8")


if __name__ == "__main__":
    main()
