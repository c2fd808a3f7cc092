"""The stages of a run, each of which goes on where a killed run was."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras_dbq
from examples.common import checks, input_pipeline, options, pipeline, report, stages, training
from examples.common.task import Task
from examples.common.work import Run, float_key
from keras_dbq import solving
from keras_dbq.compat import keras
from keras_dbq.wrapping import wrappers

# Share of zeros among the activations' codes; the first is HWGQ. source: the paper's ablation.
SPARSITIES = (0.5, 0.5625, 0.625, 0.6875, 0.75)


class Steps:
    """One run. The pictures of step 2 are the first of the training set.

    results: the figures of the stages that have been measured.
    """

    def __init__(self, task: Task, work: Run, tune_epochs: int):
        tuned = dataclasses.replace(work.arguments, epochs=tune_epochs)
        self.task, self.work, self.tuning = task, work, dataclasses.replace(work, arguments=tuned)
        self.pictures = input_pipeline.first_pictures(work.train, work.hparams["calibration"], task.prepare)
        self.network = task.build(work.train.classes, work.hparams)
        self.results: dict[str, Any] = {}

    def run(self, scheme: Any, branches: int, twn: bool, ablation: bool) -> Any:
        """Both steps and the fine-tuning; the model to export."""
        if ablation:
            self._ablation(scheme)
        step_1 = self._step_1("step_1", scheme, ablation)
        if not branches:
            return step_1
        second = checks.scheme(keras_dbq.TSQScheme, self.work.arguments.scheme, branches)
        second.init = "least_error"  # the solver comes with the values of step 1
        fitted = self._fitted(second, step_1)
        model = self._tuned("tuned", self._step_2(second, step_1))
        if twn:
            self._tuned("twn", fitted)
        return model

    def _ablation(self, scheme: Any) -> None:
        """The float network, and codes of every sparsity but the scheme's own, all with float weights."""
        network = keras.models.clone_model(self.network)
        network.set_weights(self.network.get_weights())
        self._train_step_1("float", network, "", False)
        chosen = options.scheme_options(keras_dbq.TSQScheme, self.work.arguments.scheme, ("branches",))
        for sparsity in SPARSITIES:
            if sparsity != scheme.codes["sparsity"]:
                other = keras_dbq.TSQScheme(branches=0, **{**chosen, "sparsity": sparsity})
                self._step_1(f"sparsity_{100 * sparsity:g}", other, True)

    def _step_1(self, name: str, scheme: Any, float_weights: bool) -> Any:
        """Codes as activations, trained from scratch."""
        start = keras_dbq.quantize_model(self.network, scheme, calibration_data=self.pictures)
        return self._train_step_1(name, start, self.work.arguments.scheme, float_weights)

    def _train_step_1(self, name: str, model: Any, scheme: str, float_weights: bool) -> Any:
        hparams = self.work.hparams
        key = float_key(self.work) | {"scheme": scheme, "float_weights": float_weights}
        with wrappers.quantizer_flags(model, weights_bypass=float_weights):
            self._stage(self.work, name, key, model, hparams["learning_rate"], hparams["weight_decay"])
        return model

    def _step_2(self, scheme: Any, step_1: Any) -> Any:
        """Solved from the model of step 1."""
        model = keras_dbq.quantize_model(self.network, scheme, calibration_data=self.pictures)
        folder = self.work.arguments.workdir / "step_2"
        passes = self.work.hparams["relu_passes"]
        solved = keras_dbq.solve_ternary(model, step_1, self.pictures, relu_passes=passes, workdir=folder)
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
        self._measure("fitted", model)
        return model

    def _tuned(self, name: str, model: Any) -> Any:
        if self.tuning.arguments.epochs:
            arguments = self.tuning.arguments
            key = float_key(self.tuning) | {"scheme": arguments.scheme, "branches": arguments.branches}
            self._stage(self.tuning, name, key, model, self.work.hparams["tune_learning_rate"], 0.0)
        return model

    def _stage(self, work: Run, name: str, key: dict[str, Any], model: Any, rate: float, decay: float) -> None:
        """Trains a model, or gives it the weights that an earlier run has trained, and measures it."""
        stage = stages.open_stage(work.arguments.workdir, name, key)
        if stage.finished:
            model.set_weights(stages.load(stage).get_weights())
        else:
            print(f"training of {name}", flush=True)
            hparams, epochs = work.hparams, work.arguments.epochs
            steps = work.train.count // hparams["batch_size"]
            settings = training.Settings(epochs, steps, rate, decay, hparams["optimizer"], bool(hparams["bfloat16"]))
            pipeline.train(work, stage, model, settings, lambda own, _: own)
        self._measure(name, model)

    def _measure(self, name: str, model: Any) -> None:
        outputs = report.predict(name, model.predict_on_batch, self.work.test)
        self.results[f"{name}_accuracy"] = self.task.metric(outputs, self.work.labels)
        print(f"{name}: {self.results[f'{name}_accuracy']:.4f}", flush=True)


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
