"""Step 1, step 2, fine-tuning, export and evaluation of VGG-small; each stage goes on where a killed run was."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras_dbq
from examples.cifar10.train import SIZE, normalise
from examples.common import checks, distribution, input_pipeline, options, pipeline, report, stages, training
from examples.common.task import KINDS, Task
from examples.common.work import Arguments, Run, float_key, load
from keras_dbq import models, solving
from keras_dbq._table import Table
from keras_dbq.compat import keras

TASK = Task(
    size=SIZE,
    build=lambda classes, hparams: models.vgg_small((SIZE, SIZE, 3), classes, hparams["alpha"]),
    load=keras.models.load_model,
    prepare=normalise,
    pad=4,
    hparams={
        "alpha": 0.25,  # width of VGG-small
        "learning_rate": 0.01,  # of step 1, at the start of the cosine
        "weight_decay": 5e-4,  # of step 1
        "tune_learning_rate": 0.001,
        "calibration": 1000,  # pictures of step 2
    },
)


def run(
    data: str,
    workdir: Path,
    *,
    epochs: int = 25,
    tune_epochs: int = 5,
    scheme: str = "",
    branches: int = 1,
    twn: bool = False,
    seed: int = 0,
    hparams: str = "",
) -> dict[str, Any]:
    """Everything from the data to results.json in `workdir`; the arguments are the flags of main.py.

    Raises ValueError on settings that do not fit the data or each other.
    """
    arguments = Arguments(data, Path(workdir), epochs=epochs, branches=branches, scheme=scheme, seed=seed)
    chosen = options.parse(hparams, TASK.defaults, "hparams", KINDS)
    chosen["flip"] = data != "digits" if chosen["flip"] is None else chosen["flip"]
    for name, value, low in (("epochs", epochs, 1), ("tune_epochs", tune_epochs, 0)):
        checks.number(name, value, low, 10**6)
    checks.number("branches", branches, 0, 2)
    checks.workdir(arguments.workdir)
    checks.packages("matplotlib")
    checks.delegate()
    first = checks.scheme(keras_dbq.TSQScheme, scheme, 0)
    work = load(TASK, arguments, chosen, distribution.make_strategy("none"))
    keras.utils.set_random_seed(seed)
    return _Steps(work, tune_epochs).run(first, branches, twn)


class _Steps:
    """One run. The pictures of step 2 are the first of the training set."""

    def __init__(self, work: Run, tune_epochs: int):
        tuned = dataclasses.replace(work.arguments, epochs=tune_epochs)
        self.work, self.tuning = work, dataclasses.replace(work, arguments=tuned)
        self.pictures = input_pipeline.first_pictures(work.train, work.hparams["calibration"], work.task.prepare)
        self.network = work.task.build(work.train.classes, work.hparams)
        self.results: dict[str, Any] = {}

    def run(self, first: Any, branches: int, twn: bool) -> dict[str, Any]:
        model = step_1 = self._step_1(first)
        if branches:
            second = checks.scheme(keras_dbq.TSQScheme, self.work.arguments.scheme, branches)
            second.init = "least_error"  # the solver comes with the values of step 1
            model = self._tuned("tuned", self._step_2(second, step_1))
            if twn:
                self._tuned("twn", self._fitted(second, step_1))
        outputs = pipeline.exported(self.work, model, self.results)
        self.results |= {f"{name}_accuracy": TASK.metric(y, self.work.labels) for name, y in outputs.items()}
        self.results["packed_differs_from_int8"] = int((outputs["packed"] != outputs["int8"]).sum())
        arguments = {k: v for k, v in vars(self.work.arguments).items() if k not in ("workdir", "hparams")}
        everything = {"arguments": {**arguments, **self.work.hparams}, **self.results}
        report.write_results(self.work.arguments.workdir / "results.json", everything)
        print(_table(self.results), flush=True)
        return everything

    def _step_1(self, scheme: Any) -> Any:
        hparams = self.work.hparams
        key = float_key(self.work) | {"scheme": self.work.arguments.scheme}
        start = keras_dbq.quantize_model(self.network, scheme, calibration_data=self.pictures)
        return self._stage(self.work, "step_1", key, start, hparams["learning_rate"], hparams["weight_decay"])

    def _step_2(self, scheme: Any, step_1: Any) -> Any:
        """Solved from the model of step 1, with what a fit of its weights gives beside it."""
        self._measure("fitted", self._fitted(scheme, step_1))
        model = keras_dbq.quantize_model(self.network, scheme, calibration_data=self.pictures)
        folder = self.work.arguments.workdir / "step_2"
        solved = keras_dbq.solve_ternary(model, step_1, self.pictures, workdir=folder)
        print(solved, flush=True)
        self.results["code_errors"] = solved.errors
        plot(solved.errors, self.work.arguments.workdir / "code_errors.png")
        self._measure("step_2", model)
        return model

    def _fitted(self, scheme: Any, step_1: Any) -> Any:
        """Ternary weights nearest to those of step 1, batch norm measured anew."""
        model = keras_dbq.quantize_model(self.network, scheme, calibration_data=self.pictures)
        solving.take_over(model, step_1)
        keras_dbq.initialize(model, self.pictures)
        return model

    def _tuned(self, name: str, model: Any) -> Any:
        if not self.tuning.arguments.epochs:
            return model
        arguments = self.tuning.arguments
        key = float_key(self.tuning) | {"scheme": arguments.scheme, "branches": arguments.branches}
        return self._stage(self.tuning, name, key, model, self.work.hparams["tune_learning_rate"], 0.0)

    def _stage(self, work: Run, name: str, key: dict[str, Any], model: Any, rate: float, decay: float) -> Any:
        """Trains a model, or takes over what an earlier run has trained, and measures it."""
        stage = stages.open_stage(work.arguments.workdir, name, key)
        if stage.finished:
            model = stages.load(stage)
        else:
            steps = work.train.count // work.hparams["batch_size"]
            settings = training.Settings(work.arguments.epochs, steps, rate, decay, work.hparams["optimizer"])
            pipeline.train(work, stage, model, settings, lambda own, _: own)
        self._measure(name, model)
        return model

    def _measure(self, name: str, model: Any) -> None:
        outputs = report.predict(name, model.predict_on_batch, self.work.test)
        self.results[f"{name}_accuracy"] = TASK.metric(outputs, self.work.labels)
        print(f"{name}: {self.results[f'{name}_accuracy']:.4f}", flush=True)


_ROWS = {
    "step_1": "step 1, 8-bit weights",
    "fitted": "ternary, fit of the weights",
    "step_2": "ternary, step 2",
    "tuned": "step 2 and fine-tuning",
    "twn": "fit and training (TWN)",
    "int8": "int8.tflite",
    "packed": "packed.tflite",
}


def _table(results: dict[str, Any]) -> Table:
    table = Table(["network", "accuracy", "bytes"])
    for name, what in _ROWS.items():
        if f"{name}_accuracy" in results:
            bytes_ = results.get(f"{name}_bytes")
            table.add(what, f"{100 * results[f'{name}_accuracy']:.2f} %", "" if bytes_ is None else f"{bytes_:,}")
    return table


def plot(errors: dict[str, tuple[float, float]], path: Path) -> None:
    """A picture of the code error of each layer, with the fitted and with the solved weights."""
    import matplotlib

    matplotlib.use("Agg")  # no screen needed
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(1.2 * len(errors) + 2, 4))
    for number, what in enumerate(("fit of the weights", "step 2")):
        places = [i + 0.4 * number for i in range(len(errors))]
        axes.bar(places, [pair[number] for pair in errors.values()], 0.4, label=what)
    axes.set_xticks([i + 0.2 for i in range(len(errors))], list(errors), rotation=45, ha="right")
    axes.set_ylabel("relative squared error of the output")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
