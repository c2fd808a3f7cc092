"""Seconds of `quantize_model` and `export_tflite` on large networks: `python -m tools.quantize_speed [name ...]`.

Random weights, 224 x 224, two branches, 32 random pictures for calibration, all layers (`strict`). Each network runs in
a process of its own, so that the peak of memory is its own.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import tempfile
import time
from typing import Any

from keras_dbq._table import Table
from keras_dbq.benchmark import cpu_name

NETWORKS = ("ResNet50", "DenseNet121", "VGG16")
SIZE = 224


def measure(name: str) -> tuple[str, float, float, int, float]:
    """(name, seconds of quantize_model, seconds of export_tflite, bytes of the file, peak of memory in GiB)."""
    import numpy as np

    import keras_dbq
    from keras_dbq.compat import keras

    make: Any = getattr(keras.applications, name)
    model = make(weights=None, input_shape=(SIZE, SIZE, 3))
    x = np.random.default_rng(0).normal(size=(32, SIZE, SIZE, 3)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        times = [time.perf_counter()]
        q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(branches=2), calibration_data=x)
        times.append(time.perf_counter())
        report = keras_dbq.export_tflite(q_model, f"{folder}/model.tflite", strict=True)
        times.append(time.perf_counter())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return name, times[1] - times[0], times[2] - times[1], len(report.data), peak


def main(names: list[str]) -> None:
    table = Table(["network", "quantize s", "export s", "together s", "packed bytes", "peak GiB"])
    for wanted in names or NETWORKS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            name, quantize, export, size, peak = pool.apply(measure, (wanted,))
        table.add(name, f"{quantize:.1f}", f"{export:.1f}", f"{quantize + export:.1f}", f"{size:,}", f"{peak:.1f}")
    print(f"{cpu_name()}, {os.cpu_count()} cores")
    print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
