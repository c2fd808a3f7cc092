"""Writes VGG-small with codes of 2 and 4 bits in both packed forms, to be timed by `keras-dbq benchmark`.

Usage, from the repository root: python -m tools.threshold_files FOLDER [--alpha 1.0]

`table`: format version 1, a table behind each layer. `thresholds`: format version 2. The weights are random: time does
not depend on them.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import keras_dbq
from keras_dbq import models
from keras_dbq._files import write_file
from keras_dbq.compat import keras

SPARSITY = 0.75


def write(folder: Path, bits: int, alpha: float) -> None:
    """Both files of one number of bits."""
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(64, 32, 32, 3)).astype(np.float32)
    scheme = keras_dbq.TSQScheme(bits, SPARSITY, init="least_error")
    q_model = keras_dbq.quantize_model(models.vgg_small(alpha=alpha), scheme, calibration_data=x)
    int8 = keras_dbq.export_tflite(q_model, None, "int8").data
    for name, counts in (("table", False), ("thresholds", True)):
        data = keras_dbq.pack_tflite(int8, count_thresholds=counts).data
        write_file(folder / f"vgg_small_{bits}_bit_{name}.tflite", data)
        print(f"{bits} bit, {name}: {len(data):,} bytes", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--alpha", type=float, default=1.0, help="width of VGG-small")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for bits in (2, 4):
        write(arguments.folder, bits, arguments.alpha)


if __name__ == "__main__":
    main()
