"""What every example does: float model, DBQ training from it, export, both files measured, results.json, a table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import keras_dbq
from examples.common import options, report, training
from keras_dbq import datasets
from keras_dbq.compat import keras
from keras_dbq.training import distillation

# Settings of every example without a flag of their own, given as --hparams name=value,...
HPARAMS: dict[str, Any] = {
    "batch_size": 128,
    "optimizer": "sgd",
    "learning_rate": 0.02,  # DBQ training, at the start of the cosine
    "weight_decay": 0.0,  # DBQ training
    "float_learning_rate": 0.1,
    "float_weight_decay": 1e-4,
    "flip": None,  # mirror pictures; None: yes, except for digits
    "temperature_end": None,  # T rises exponentially from the scheme's temperature to this; None: constant
    "distill_temperature": 4.0,  # of both softmaxes in the distillation loss
    "calibration": 500,  # pictures
    "fill_dead_channels": False,  # of the float model, before it is quantized, for ternary weights with less error
    "hidden_weight": None,  # of the float network's hidden activations in the distillation loss; None: not looked at
    "fixed_statistics": False,  # DBQ training: keep the calibrated batch norm statistics and activation ranges
    "bfloat16": None,  # True: convolutions of training steps in bfloat16, for CPUs with AMX or AVX512-BF16
}


@dataclass(frozen=True)
class Task:
    """What sets one example apart.

    size: height and width of the pictures, pixels.
    build: (number of classes, hparams) -> untrained float model with logits.
    load: path -> pretrained float model with logits.
    prepare: uint8 [N, H, W, 3] -> float32, what the network takes.
    batches: (x, y, batch_size, seed, epoch, flip) -> one epoch of (float32 pictures, int32 labels).
    metric, metric_name: (logits, labels) -> share in 0..1.
    hparams: defaults that differ from HPARAMS, and further ones.
    """

    size: int
    build: Callable[[int, dict[str, Any]], Any]
    load: Callable[[str], Any]
    prepare: Callable[[np.ndarray], np.ndarray]
    batches: Callable[..., Iterator[tuple[np.ndarray, np.ndarray]]]
    metric: Callable[[np.ndarray, np.ndarray], float] = report.accuracy
    metric_name: str = "accuracy"
    hparams: dict[str, Any] = field(default_factory=dict)

    @property
    def defaults(self) -> dict[str, Any]:
        """All settings that --hparams knows, with their defaults."""
        return {**HPARAMS, **self.hparams}


def run(
    task: Task,
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
    """Everything from the data to results.json in `workdir`; the arguments are the flags of an example's main.py.

    Interrupted and started again with the same arguments it goes on after the last finished epoch.

    Returns: the results, as in results.json.
    Raises ValueError on settings that do not fit the data or each other.
    """
    settings = options.parse(hparams, task.defaults, "hparams")
    if not 0 <= distill <= 1:
        raise ValueError(f"--distill: expected a weight from 0 to 1, got {distill}")
    if settings["flip"] is None:
        settings["flip"] = data != "digits"
    images = datasets.load(data, size=task.size, channels=3)
    if (images.y_train < 0).any() and not (float_model and distill == 1):
        raise ValueError(f"--data {data}: has pictures without a label; they need --float_model and --distill=1")
    workdir.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(seed)
    arguments = {"data": data, "float_model": float_model, "epochs": epochs, "seed": seed, **settings}
    stage = _Stage(task, images, workdir, epochs, seed, settings, arguments)
    results = stage.results
    teacher = stage.float_model(float_model)
    float_outputs = stage.outputs("float model", teacher.predict_on_batch)
    results["float_accuracy"] = task.metric(float_outputs, images.y_test)
    print(f"float model: {task.metric_name} {results['float_accuracy']:.4f}", flush=True)
    if branches:
        arguments |= {"branches": branches, "scheme": scheme, "distill": distill}
        model = stage.quantized(teacher, branches, options.parse(scheme, flag="scheme"), distill)
        report.write_results(workdir / "results.json", results)  # before the export: training takes longer
        stage.exported(model, float_outputs)
    report.write_results(workdir / "results.json", results)
    print(result_table(results), flush=True)
    return results


class _Stage:
    """The stages of one run, which share data, folder, settings and results."""

    def __init__(
        self,
        task: Task,
        images: datasets.Images,
        workdir: Path,
        epochs: int,
        seed: int,
        settings: dict[str, Any],
        arguments: dict[str, Any],
    ):
        self.task, self.images, self.workdir, self.epochs, self.seed = task, images, workdir, epochs, seed
        self.settings, self.arguments = settings, arguments
        self.results: dict[str, Any] = {"arguments": arguments, "metric": task.metric_name}

    def float_model(self, path: str) -> Any:
        """The pretrained model at `path`, or one trained here."""
        if path:
            return self.task.load(path)
        model = self.task.build(self.images.classes, self.settings)
        print(f"float training, {model.count_params()} parameters", flush=True)
        schedule = self._schedule(self.settings["float_learning_rate"], self.settings["float_weight_decay"])
        self.results["float_history"] = self._train(model, schedule, "float", training.cross_entropy)
        model.save(self.workdir / "float.keras")
        return model

    def quantized(self, teacher: Any, branches: int, scheme_options: dict[str, Any], distill: float) -> Any:
        """The DBQ model, trained from the float model `teacher`."""
        scheme = keras_dbq.DBQScheme(branches=branches, **scheme_options)
        if self.settings["fill_dead_channels"]:
            pictures = self.task.prepare(self.images.x_train[: 2 * self.settings["calibration"]])
            teacher, table = keras_dbq.fill_dead_channels(teacher, pictures, branches=branches)
            print(table, flush=True)
        calibration = self.task.prepare(self.images.x_train[: self.settings["calibration"]])
        model = keras_dbq.quantize_model(teacher, scheme, calibration_data=calibration)
        self.results["untrained_accuracy"] = self._evaluate(model)["test_accuracy"]
        print(f"{branches} branches, before training: {self.results['untrained_accuracy']:.4f}", flush=True)
        loss, network, hidden_weight = training.cross_entropy, None, self.settings["hidden_weight"]
        if distill and hidden_weight is not None:
            network, teacher, _ = distillation.hidden_models(model, teacher)
        if distill:
            loss = training.distillation(teacher, distill, self.settings["distill_temperature"], hidden_weight)
        schedule = self._schedule(
            self.settings["learning_rate"], self.settings["weight_decay"], self.settings["fixed_statistics"]
        )
        temperature = self._temperature(model, scheme.ternary["temperature"], schedule)
        self.results["history"] = self._train(model, schedule, "dbq", loss, temperature, network)
        model.save(self.workdir / "dbq.keras")
        return model

    def exported(self, model: Any, float_outputs: np.ndarray) -> None:
        """Exports the trained model in both encodings and measures both files and, its biases rounded, the model."""
        results, outputs = self.results, {}
        for encoding in ("int8", "packed"):
            file = self.workdir / f"{encoding}.tflite"
            exported = keras_dbq.export_tflite(model, str(file), encoding=encoding, strict=True)
            interpreter = keras_dbq.Interpreter(str(file), num_threads=2, delegate=encoding == "packed")
            outputs[encoding] = self.outputs(file.name, interpreter.predict)
            results[f"{encoding}_bytes"] = file.stat().st_size
        print(exported, flush=True)
        outputs["quantized"] = self.outputs("quantized model", model.predict_on_batch)
        for name, values in outputs.items():
            results[f"{name}_accuracy"] = self.task.metric(values, self.images.y_test)
        results["agreement_quantized_packed"] = report.agreement(outputs["quantized"], outputs["packed"])
        results["agreement_float_packed"] = report.agreement(float_outputs, outputs["packed"])
        results["packed_differs_from_int8"] = int(np.sum(outputs["packed"] != outputs["int8"]))

    def outputs(self, name: str, predict: Callable[[Any], Any]) -> np.ndarray:
        """Logits of the whole test set."""
        started = time.perf_counter()
        values = report.predict_in_blocks(predict, self.images.x_test, self.task.prepare)
        print(f"{name}: {len(values)} test pictures in {time.perf_counter() - started:.1f} s", flush=True)
        return values

    def _evaluate(self, model: Any) -> dict[str, float]:
        outputs = report.predict_in_blocks(
            model.predict_on_batch, self.images.x_test, self.task.prepare, progress=False
        )
        return {"test_accuracy": self.task.metric(outputs, self.images.y_test)}

    def _schedule(self, learning_rate: float, weight_decay: float, fixed_statistics: bool = False) -> training.Settings:
        steps = len(self.images.x_train) // self.settings["batch_size"]
        return training.Settings(
            self.epochs,
            steps,
            learning_rate,
            weight_decay=weight_decay,
            optimizer=self.settings["optimizer"],
            fixed_statistics=fixed_statistics,
        )

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
        network: Any = None,
    ) -> list[dict]:
        x, y, settings = self.images.x_train, self.images.y_train, self.settings

        def batches(epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            return self.task.batches(x, y, settings["batch_size"], self.seed, epoch, settings["flip"])

        checkpoint = self.workdir / f"{name}_checkpoint.npz"
        bfloat16 = bool(settings["bfloat16"])
        return training.train(
            model, batches, schedule, checkpoint, loss, self._evaluate, before_step, self.arguments, network, bfloat16
        )


def result_table(results: dict[str, Any]) -> str:
    """The figures of one run as text."""

    def percent(name: str) -> str:
        return f"{100 * results[name]:.2f} %"

    rows = [(f"float, {results['metric']}", percent("float_accuracy"))]
    if "packed_accuracy" in results:
        rows += [
            ("quantized, before training", percent("untrained_accuracy")),
            ("quantized, in Keras", percent("quantized_accuracy")),
            ("exported, int8", f"{percent('int8_accuracy')}, {results['int8_bytes']} bytes"),
            ("exported, packed", f"{percent('packed_accuracy')}, {results['packed_bytes']} bytes"),
            ("packed and int8 differ in", f"{results['packed_differs_from_int8']} outputs"),
            ("same class, Keras and packed", percent("agreement_quantized_packed")),
        ]
    return report.table(rows)
