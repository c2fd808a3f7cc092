"""The stages of the CIFAR-10 example: float model, DBQ model, exported files, results."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import keras_dbq
from examples.cifar10 import input_pipeline
from examples.common import options, report, training
from keras_dbq import datasets, models
from keras_dbq.compat import keras

SIZE = 32  # pixels
# Settings without a flag of their own, given as --hparams name=value,...
HPARAMS: dict[str, Any] = {
    "depth": 20,  # of the ResNet, 6n + 2
    "batch_size": 128,
    "learning_rate": 0.02,  # DBQ training, at the start of the cosine
    "float_learning_rate": 0.1,
    "weight_decay": 0.0,  # DBQ training
    "float_weight_decay": 1e-4,
    "flip": None,  # mirror pictures; None: yes, except for digits
    "temperature_end": None,  # T rises exponentially from the scheme's temperature to this; None: constant
    "calibration": 500,  # pictures
}


def run(
    data: str,
    workdir: Path,
    float_model: str = "",
    epochs: int = 20,
    branches: int = 2,
    scheme: str = "",
    distill: float = 0.0,
    seed: int = 0,
    hparams: str = "",
) -> dict[str, Any]:
    """Everything from the data to results.json in `workdir`; see the flags in main.py.

    Interrupted and started again with the same arguments it goes on after the last finished epoch.
    Returns the results. Raises ValueError on settings that do not fit.
    """
    settings = options.parse(hparams, HPARAMS, "hparams")
    if not 0 <= distill <= 1:
        raise ValueError(f"--distill: expected a weight from 0 to 1, got {distill}")
    workdir.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(seed)
    images = datasets.load(data, size=SIZE, channels=3)
    if settings["flip"] is None:
        settings["flip"] = data != "digits"
    results: dict[str, Any] = {
        "arguments": {
            "data": data,
            "float_model": float_model,
            "epochs": epochs,
            "branches": branches,
            "scheme": scheme,
            "distill": distill,
            "seed": seed,
            **settings,
        }
    }
    stage = _Stage(images, workdir, epochs, seed, settings, results["arguments"])
    teacher, results["float_history"] = stage.float_model(float_model)
    float_outputs = stage.outputs("float", teacher.predict_on_batch)
    results["float_accuracy"] = report.accuracy(float_outputs, images.y_test)
    if branches:
        stage.quantized(teacher, branches, options.parse(scheme, flag="scheme"), distill, float_outputs, results)
    report.write_results(workdir / "results.json", results)
    print(_table(results), flush=True)
    return results


class _Stage:
    """The stages of one run, which share data, folder and settings."""

    def __init__(
        self,
        images: datasets.Images,
        workdir: Path,
        epochs: int,
        seed: int,
        settings: dict[str, Any],
        arguments: dict[str, Any],
    ):
        self.images, self.workdir, self.epochs, self.seed = images, workdir, epochs, seed
        self.settings, self.arguments = settings, arguments

    def float_model(self, path: str) -> tuple[Any, list[dict]]:
        """The pretrained model at `path`, or one trained here; and the history of its training."""
        if path.endswith(".npz"):
            return models.resnet20_from_npz(path), []
        if path:
            return keras.models.load_model(path, compile=False), []
        model = models.resnet_cifar(self.settings["depth"], (SIZE, SIZE, 3), self.images.classes)
        print(f"float training, {model.count_params()} parameters", flush=True)
        schedule = self._schedule(self.settings["float_learning_rate"], self.settings["float_weight_decay"])
        history = self._train(model, schedule, "float", training.cross_entropy)
        model.save(self.workdir / "float.keras")
        return model, history

    def quantized(
        self,
        teacher: Any,
        branches: int,
        scheme_options: dict[str, Any],
        distill: float,
        float_outputs: np.ndarray,
        results: dict[str, Any],
    ) -> None:
        """DBQ training from the float model, export in both encodings, evaluation of both files; into `results`."""
        images, workdir = self.images, self.workdir
        scheme = keras_dbq.DBQScheme(branches=branches, **scheme_options)
        calibration = input_pipeline.normalise(images.x_train[: self.settings["calibration"]])
        model = keras_dbq.quantize_model(teacher, scheme, calibration_data=calibration)
        results["untrained_accuracy"] = self._evaluate(model)["test_accuracy"]
        print(f"{branches} branches, before training: accuracy {results['untrained_accuracy']:.4f}", flush=True)
        loss = training.distillation(teacher, distill) if distill else training.cross_entropy
        schedule = self._schedule(self.settings["learning_rate"], self.settings["weight_decay"])
        temperature = self._temperature(model, scheme.ternary["temperature"], schedule)
        results["history"] = self._train(model, schedule, "dbq", loss, temperature)
        model.save(workdir / "dbq.keras")
        outputs = {"quantized": self.outputs("quantized model", model.predict_on_batch)}
        for encoding in ("int8", "packed"):
            file = workdir / f"{encoding}.tflite"
            exported = keras_dbq.export_tflite(model, str(file), encoding=encoding, strict=True)
            outputs[encoding] = self.outputs(file.name, keras_dbq.Interpreter(str(file)).predict)
            results[f"{encoding}_bytes"] = file.stat().st_size
        print(exported, flush=True)
        for name, values in outputs.items():
            results[f"{name}_accuracy"] = report.accuracy(values, images.y_test)
        results["agreement_quantized_packed"] = report.agreement(outputs["quantized"], outputs["packed"])
        results["agreement_float_packed"] = report.agreement(float_outputs, outputs["packed"])
        results["packed_differs_from_int8"] = int(np.sum(outputs["packed"] != outputs["int8"]))

    def outputs(self, name: str, predict: Callable[[Any], Any]) -> np.ndarray:
        """Logits of the whole test set."""
        started = time.perf_counter()
        values = report.predict_in_blocks(predict, self.images.x_test, input_pipeline.normalise)
        print(f"{name}: {len(values)} test pictures in {time.perf_counter() - started:.1f} s", flush=True)
        return values

    def _evaluate(self, model: Any) -> dict[str, float]:
        outputs = report.predict_in_blocks(
            model.predict_on_batch, self.images.x_test, input_pipeline.normalise, progress=False
        )
        return {"test_accuracy": report.accuracy(outputs, self.images.y_test)}

    def _schedule(self, learning_rate: float, weight_decay: float) -> training.Settings:
        steps = len(self.images.x_train) // self.settings["batch_size"]
        return training.Settings(self.epochs, steps, learning_rate, weight_decay=weight_decay)

    def _temperature(self, model: Any, start: float, schedule: training.Settings) -> Callable[[int], None] | None:
        """What sets T before each step; None where it stays."""
        end, steps = self.settings["temperature_end"], schedule.epochs * schedule.steps_per_epoch
        if end is None:
            return None
        curve = keras_dbq.schedules.Exponential(start, end, steps)
        return lambda step: keras_dbq.set_temperature(model, curve(step))

    def _train(
        self,
        model: Any,
        schedule: training.Settings,
        name: str,
        loss: training.Loss,
        before_step: Callable[[int], None] | None = None,
    ) -> list[dict]:
        images, settings = self.images, self.settings

        def batches(epoch: int) -> Any:
            return input_pipeline.batches(
                images.x_train, images.y_train, settings["batch_size"], self.seed, epoch, settings["flip"]
            )

        return training.train(
            model,
            batches,
            schedule,
            self.workdir / f"{name}_checkpoint.npz",
            loss=loss,
            evaluate=self._evaluate,
            before_step=before_step,
            key=self.arguments,
        )


def _table(results: dict[str, Any]) -> str:
    def percent(name: str) -> str:
        return f"{100 * results[name]:.2f} %"

    rows = [("float accuracy", percent("float_accuracy"))]
    if "packed_accuracy" in results:
        rows += [
            ("quantized before training", percent("untrained_accuracy")),
            ("quantized in Keras", percent("quantized_accuracy")),
            ("exported, int8", f"{percent('int8_accuracy')}, {results['int8_bytes']} bytes"),
            ("exported, packed", f"{percent('packed_accuracy')}, {results['packed_bytes']} bytes"),
            ("packed and int8 differ in", f"{results['packed_differs_from_int8']} outputs"),
            ("agreement of Keras and packed", percent("agreement_quantized_packed")),
        ]
    return report.table(rows)
