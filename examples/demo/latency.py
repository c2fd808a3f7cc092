"""Latency of several files side by side, in LiteRT with the delegate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, load_delegate

from keras_dbq.runtime.interpreter import delegate_path


def _ready(file: Path, x: np.ndarray, packed: bool) -> Any:
    """An interpreter on one thread with its input set to x, quantized."""
    delegates = [load_delegate(str(delegate_path()))] if packed else []
    interpreter = Interpreter(model_path=str(file), num_threads=1, experimental_delegates=delegates)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()[0]
    scale, zero_point = details["quantization"]
    interpreter.set_tensor(details["index"], np.clip(np.rint(x / scale) + zero_point, -128, 127).astype(np.int8))
    return interpreter


def side_by_side(files: dict[str, Path], x: np.ndarray, runs: int = 2000, warm_up: int = 50) -> dict[str, float]:
    """Median time of `invoke` in microseconds for each file.

    The files take turns, one run each, so that a change of the machine's speed meets all of them alike.

    Args:
      files: name -> file; the file named "packed" gets the delegate.
      x: one float picture [1, H, W, C].
      runs, warm_up: timed and untimed runs of each file.
    """
    interpreters = {name: _ready(file, x, name == "packed") for name, file in files.items()}
    times: dict[str, list[int]] = {name: [] for name in files}
    for i in range(warm_up + runs):
        for name, interpreter in interpreters.items():
            started = time.perf_counter_ns()
            interpreter.invoke()
            if i >= warm_up:
                times[name].append(time.perf_counter_ns() - started)
    return {name: float(np.median(values)) / 1000 for name, values in times.items()}
