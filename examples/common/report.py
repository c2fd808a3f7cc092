"""Measuring a model and its exported files over a whole test set, and printing what came out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from examples.common.training import write_atomically
from keras_dbq.compat import keras


def predict_in_blocks(
    predict: Callable[[Any], Any], x: np.ndarray, prepare: Callable, block: int = 250, progress: bool = True
) -> np.ndarray:
    """`predict(prepare(x))` over x block by block, with a progress bar on a terminal; float32 [N, outputs]."""
    bar = keras.utils.Progbar(len(x), verbose=1 if progress and sys.stdout.isatty() else 0, interval=0.5)
    outputs = []
    for i in range(0, len(x), block):
        outputs.append(np.asarray(predict(prepare(x[i : i + block]))))
        bar.update(min(i + block, len(x)))
    return np.concatenate(outputs)


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


def table(rows: list[tuple[str, str]]) -> str:
    """Two columns, the first as wide as its longest entry."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Writes results.json, complete or not at all."""
    write_atomically(path, (json.dumps(results, indent=2) + "\n").encode())
