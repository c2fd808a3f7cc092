"""Writes the golden files of this version: saved quantized models, exported files, and what they answer.

Usage, from the repository root: python tests/golden/make_golden.py 0.1, or format_2 (files of packed format version 2)

They are made once per version of the saved models or of the packed format, and stay as they are afterwards: the tests
load every version's files with today's code. The network is small and untrained but for a few steps on numbers drawn
here, because the files are about formats and arithmetic, not about accuracy.
"""

import os
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import keras_dbq
from keras_dbq.compat import keras

L = keras.layers
SHAPE = (12, 12, 3)


def network() -> keras.Model:
    """Every kind of kernel layer, batch norm, a residual addition, a softmax."""
    inputs = x = keras.Input(SHAPE, name="image")
    x = L.ReLU(6.0, name="stem_relu")(L.BatchNormalization(name="stem_bn")(L.Conv2D(8, 3, 2, "same", name="stem")(x)))
    y = L.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    y = L.ReLU(6.0, name="depthwise_relu")(L.BatchNormalization(name="depthwise_bn")(y))
    y = L.BatchNormalization(name="pointwise_bn")(L.Conv2D(8, 1, use_bias=False, name="pointwise")(y))
    x = L.ReLU(name="add_relu")(L.Add(name="add")([x, y]))
    x = L.Conv2D(12, 3, activation="relu", name="wide")(x)
    x = L.GlobalAveragePooling2D(name="pool")(x)
    x = L.Dense(10, activation="relu", name="hidden")(x)
    return keras.Model(inputs, L.Dense(4, activation="softmax", name="head")(x), name="golden")


def trained(scheme: object, x: np.ndarray, y: np.ndarray) -> keras.Model:
    """The network quantized, with Adam's state after three steps."""
    keras.utils.set_random_seed(1)
    q_model = keras_dbq.quantize_model(network(), scheme, calibration_data=x)
    q_model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    q_model.fit(x, y, batch_size=16, epochs=1, verbose=0, shuffle=False)
    return q_model


def counting() -> keras.Model:
    """Convolutions and a dense layer, each with a ReLU behind it."""
    inputs = x = keras.Input(SHAPE, name="image")
    for number, width in enumerate((8, 12, 12)):
        x = L.BatchNormalization(name=f"bn{number}")(L.Conv2D(width, 3, use_bias=False, name=f"conv{number}")(x))
        x = L.ReLU(name=f"relu{number}")(x)
    x = L.Dense(10, activation="relu", name="hidden")(L.Flatten(name="flat")(L.MaxPooling2D(2, name="pool")(x)))
    return keras.Model(inputs, L.Dense(4, name="head")(x), name="counting")


def format_2(folder: Path) -> None:
    """Codes of 2 and 4 bits whose thresholds no rounding gives: packed, they count."""
    folder.mkdir(parents=True)
    x = np.random.default_rng(0).normal(size=(48, *SHAPE)).astype(np.float32)
    arrays = {"x": x[:16]}
    for bits, branches in ((2, 1), (4, 2)):
        keras.utils.set_random_seed(1)
        scheme = keras_dbq.TSQScheme(bits, 0.55, branches=branches, codes="data", init="least_error")
        q_model = keras_dbq.quantize_model(counting(), scheme, calibration_data=x)
        for encoding in ("packed", "int8"):
            file = folder / f"tsq_{bits}_{encoding}.tflite"
            keras_dbq.export_tflite(q_model, file, encoding)
        arrays[f"tsq_{bits}"] = keras_dbq.Interpreter(str(file), delegate=False).predict(x[:16])
    np.savez_compressed(folder / "answers.npz", **arrays)


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(48, *SHAPE)).astype(np.float32), rng.integers(0, 4, 48)
    models = {
        "dbq_1": trained(keras_dbq.DBQScheme(branches=1, thresholds="midpoint"), x, y),
        "dbq_2": trained(keras_dbq.DBQScheme(branches=2, activation_ranges="trained"), x, y),
        "fat": trained(keras_dbq.FATScheme(), x, y),
    }
    models["dbq_2_frozen"] = trained(keras_dbq.DBQScheme(branches=2, activation_ranges="trained"), x, y)
    keras_dbq.freeze(models["dbq_2_frozen"], weights=True, layers=["pointwise", "hidden"])
    keras_dbq.freeze(models["dbq_2_frozen"], scales=True, ranges=True)
    models["fat_frozen"] = trained(keras_dbq.FATScheme(), x, y)
    keras_dbq.freeze(models["fat_frozen"], ranges=True, layers=["stem", "wide"])
    keras_dbq.freeze(models["fat_frozen"], weights=True)
    arrays = {"x": x[:16], "y": y[:16]}
    for name, q_model in models.items():
        for encoding in ("packed", "int8"):
            file = folder / f"{name}_{encoding}.tflite"
            keras_dbq.export_tflite(q_model, file, encoding)
            arrays[f"{name}_{encoding}"] = keras_dbq.Interpreter(str(file)).predict(x[:16])
        for ending in ("keras", "h5"):
            q_model.save(folder / f"{name}.{ending}")
        arrays[name] = q_model.predict(x[:16], verbose=0)
        arrays[f"{name}_trainable"] = np.array([v.name for v in q_model.trainable_variables])
        arrays[f"{name}_weights"] = np.array([v.name for v in q_model.weights])
        for i, value in enumerate(q_model.get_weights()):
            arrays[f"{name}_weight_{i}"] = value
    np.savez_compressed(folder / "answers.npz", **arrays)


if __name__ == "__main__":
    (format_2 if sys.argv[1] == "format_2" else main)(Path(__file__).parent / sys.argv[1])
