"""Whole networks for tools/arm_check.py: packed and int8 files, pictures, and what this machine answers.

python tools/arm_networks.py FOLDER
"""

import os
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tf_keras as keras

import keras_dbq
from keras_dbq import models

PICTURES = 4


def networks() -> dict[str, tuple[keras.Model, int]]:
    """{name: (float model, ternary branches)}; weights are random, batch norms are not the identity."""
    keras.utils.set_random_seed(0)
    found = {
        "mobilenet_v1": (models.mobilenet_v1((96, 96, 3), classes=2, alpha=0.25), 2),
        "shufflenet_v2": (models.shufflenet_v2((64, 64, 3), classes=10), 1),
        "resnet": (models.resnet_cifar(8), 1),
    }
    rng = np.random.default_rng(0)
    for model, _ in found.values():
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                n = layer.gamma.shape[0]
                values = (
                    rng.uniform(0.5, 1.5, n),
                    rng.normal(0, 0.3, n),
                    rng.normal(0, 0.3, n),
                    rng.uniform(0.5, 2, n),
                )
                layer.set_weights([v.astype(np.float32) for v in values])
    return found


def write(folder: Path, name: str, model: keras.Model, branches: int) -> None:
    rng = np.random.default_rng(1)
    pictures = rng.uniform(-1, 1, (32, *model.input_shape[1:])).astype(np.float32)
    scheme = keras_dbq.DBQScheme(branches=branches)
    q_model = keras_dbq.quantize_model(model, scheme, calibration_data=pictures)
    paths = {encoding: folder / f"{name}_{encoding}.tflite" for encoding in ("packed", "int8")}
    for encoding, path in paths.items():
        keras_dbq.export_tflite(q_model, path, encoding=encoding, strict=True)
    x = pictures[:PICTURES]
    answers = keras_dbq.Interpreter(paths["int8"], delegate=False).predict(x)
    for other in (
        keras_dbq.Interpreter(paths["packed"]).predict(x),
        keras_dbq.reference.Engine(str(paths["packed"]), rounding="xnnpack").run(x),
    ):
        if not np.array_equal(other, answers):
            raise SystemExit(f"{name}: expected the stock interpreter's answers from the delegate and from numpy")
    np.savez(folder / f"{name}.npz", x=x, answers=answers)


def main(folder: str) -> None:
    for name, (model, branches) in networks().items():
        write(Path(folder), name, model, branches)


if __name__ == "__main__":
    main(sys.argv[1])
