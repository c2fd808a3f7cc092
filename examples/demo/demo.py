"""MobileNetV1 0.25 on handwritten digits: from a float model to a verified packed file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

import keras_dbq
from examples.common import checks, report
from examples.demo import latency, plots
from keras_dbq import datasets, models
from keras_dbq._table import Table
from keras_dbq.compat import keras

SIZE = 32  # pixels
BATCH = 64


def prepare(pictures: np.ndarray) -> np.ndarray:
    """uint8 -> float32 in [0, 1]: all 256 values lie on the 8-bit grid of the input."""
    return pictures * np.float32(1 / 255)


def compiled(model: Any, learning_rate: float, epochs: int, pictures: int) -> Any:
    """The model with Adam on a cosine schedule and cross-entropy on logits."""
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * -(-pictures // BATCH))
    model.compile(
        keras.optimizers.Adam(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def run(out: Path, branches: int = 2, epochs: int = 40, seed: int = 0) -> dict[str, Any]:
    """The whole path, with the files, plots and results.json in `out`; returns the results."""
    started = time.perf_counter()
    checks.number("branches", branches, 1, 2)
    checks.number("epochs", epochs, 1, 10**6)
    checks.workdir(out, "out")
    checks.delegate()  # plots imported matplotlib already
    keras.utils.set_random_seed(seed)
    images = datasets.load("digits", size=SIZE, channels=3, seed=seed)
    x_train, x_test = prepare(images.x_train), prepare(images.x_test)
    y_train, y_test = images.y_train, images.y_test

    print(f"1. float training: MobileNetV1 0.25, {len(x_train)} handwritten digits of {SIZE} x {SIZE}", flush=True)
    model = models.mobilenet_v1((SIZE, SIZE, 3), 10, alpha=0.25, stem_stride=1, batch_norm_momentum=0.9)
    compiled(model, 3e-3, epochs, len(x_train)).fit(x_train, y_train, BATCH, epochs, verbose=2)

    print(f"2. DBQ training: {branches} ternary branches, 8-bit activations", flush=True)
    scheme = keras_dbq.DBQScheme(branches=branches)
    q_model = keras_dbq.quantize_model(model, scheme, calibration_data=x_train[:500])
    q_epochs = max(epochs // 2, 1)
    compiled(q_model, 1e-3, q_epochs, len(x_train)).fit(x_train, y_train, BATCH, q_epochs, verbose=2)

    print("3. export", flush=True)
    files = {encoding: out / f"digits_{encoding}.tflite" for encoding in ("int8", "packed")}
    for encoding, file in files.items():
        exported = keras_dbq.export_tflite(q_model, str(file), encoding=encoding, strict=True)
    print(exported, flush=True)

    print("4. run and verify", flush=True)
    outputs = {
        "float": model.predict(x_test, verbose=0),
        "quantized": q_model.predict(x_test, verbose=0),
        "int8": keras_dbq.Interpreter(str(files["int8"]), delegate=False).predict(x_test),
        "packed": keras_dbq.Interpreter(str(files["packed"])).predict(x_test),
    }
    print(keras_dbq.verify(q_model, str(files["packed"]), x_test[:100]), flush=True)
    microseconds = latency.side_by_side(files, x_test[:1])

    print("5. plots", flush=True)
    pictures = plots.write_all(q_model, out)
    results = collect(model, files, outputs, y_test, microseconds)
    results |= {"seconds": time.perf_counter() - started, "branches": branches, "epochs": epochs, "seed": seed}
    report.write_results(out / "results.json", results)
    print("plots: " + ", ".join(str(picture) for picture in pictures))
    print("\n" + table(results), flush=True)
    return results


def collect(
    model: Any,
    files: dict[str, Path],
    outputs: dict[str, np.ndarray],
    labels: np.ndarray,
    microseconds: dict[str, float],
) -> dict[str, Any]:
    """All figures of the table."""
    results: dict[str, Any] = {f"{name}_accuracy": report.accuracy(y, labels) for name, y in outputs.items()}
    results["float_bytes"] = 4 * model.count_params()
    results |= {f"{name}_bytes": file.stat().st_size for name, file in files.items()}
    results |= {f"{name}_us": value for name, value in microseconds.items()}
    results["agreement_quantized_packed"] = report.agreement(outputs["quantized"], outputs["packed"])
    results["packed_differs_from_int8"] = int(np.sum(outputs["packed"] != outputs["int8"]))
    return results


def table(results: dict[str, Any]) -> str:
    """Accuracy, size and latency of the float, the quantized, the int8 and the packed model."""
    shown = Table(["network", "accuracy", "bytes", "latency"])
    for name in ("float", "quantized", "int8", "packed"):
        size = f"{results[f'{name}_bytes']:,}" if f"{name}_bytes" in results else "(Keras)"
        latency = f"{results[f'{name}_us']:.1f} us" if f"{name}_us" in results else ""
        shown.add(name, f"{100 * results[f'{name}_accuracy']:.2f} %", size, latency)
    return "\n".join([
        str(shown),
        f"same class, Keras and packed: {100 * results['agreement_quantized_packed']:.2f} %; "
        f"outputs in which packed and int8 differ: {results['packed_differs_from_int8']}",
        "float bytes: 4 per parameter; latency: one picture, one thread, median of alternating runs",
    ])  # fmt: skip
