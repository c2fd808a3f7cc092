"""Measuring a model and its exported files over a whole test set, and printing what came out."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_dbq._files import write_file
from keras_dbq._table import Table
from keras_dbq.compat import keras


def predict(name: str, function: Callable[[Any], Any], batches: Any) -> np.ndarray:
    """`function(x)` for every (x, labels) of a tf.data set, with a progress bar on a terminal; float32 [N, outputs]."""
    started = time.perf_counter()
    bar = keras.utils.Progbar(int(batches.cardinality()), verbose=1 if sys.stdout.isatty() else 0, interval=0.5)
    outputs = []
    for x, _ in batches:
        outputs.append(np.asarray(function(x.numpy())))
        bar.update(len(outputs))
    values = np.concatenate(outputs)
    print(f"{name}: {len(values)} test pictures in {time.perf_counter() - started:.1f} s", flush=True)
    return values


def labels(batches: Any) -> np.ndarray:
    """The labels of a tf.data set of batches; int64 [N]."""
    return np.concatenate([y.numpy() for _, y in batches])


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Share of right answers."""
    return float(np.mean(outputs.argmax(-1) == labels))


def balanced_accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes of the share of right answers; with two classes the mean of recall and specificity."""
    right = outputs.argmax(-1) == labels
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Share of pictures on which two models give the same class."""
    return float(np.mean(a.argmax(-1) == b.argmax(-1)))


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Writes results.json, complete or not at all."""
    write_file(path, (json.dumps(results, indent=2) + "\n").encode())


def result_table(results: dict[str, Any]) -> Table:
    """The figures of one run of an example."""
    table = Table(["network", results["metric"], "bytes"])

    def add(name: str, figure: str, size: Any = "") -> None:
        table.add(name, f"{100 * results[f'{figure}_accuracy']:.2f} %", size)

    add("float", "float")
    if "packed_accuracy" in results:
        add("quantized, before training", "untrained")
        add("quantized, in Keras", "quantized")
        add("exported, int8", "int8", f"{results['int8_bytes']:,}")
        add("exported, packed", "packed", f"{results['packed_bytes']:,}")
        table.add("packed and int8 differ in", f"{results['packed_differs_from_int8']} outputs", "")
        table.add("same class, Keras and packed", f"{100 * results['agreement_quantized_packed']:.2f} %", "")
    return table
