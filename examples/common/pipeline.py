"""What every example does: float model, DBQ training from it, export, both files measured, results.json, a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import keras_dbq
from examples.common import checks, distribution, input_pipeline, options, report, stages, training
from keras_dbq import datasets
from keras_dbq.compat import keras
from keras_dbq.training.callbacks import TemperatureSchedule
from keras_dbq.training.distiller import Distiller

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
    "hidden_weight": None,  # of the float network's hidden activations in the loss; None: not looked at
    "fixed_statistics": False,  # DBQ training: keep the calibrated batch norm statistics and activation ranges
    "bfloat16": None,  # True: convolutions of training steps in bfloat16, for CPUs with AMX or AVX512-BF16
}
KINDS: dict[str, type] = {"flip": bool, "temperature_end": float, "hidden_weight": float, "bfloat16": bool}
TEST_BATCH = 250  # pictures; it changes no result


@dataclass(frozen=True)
class Task:
    """What sets one example apart.

    size: height and width of the pictures, pixels.
    build: (number of classes, hparams) -> untrained float model with logits.
    load: path -> pretrained float model with logits.
    prepare: uint8 [N, H, W, 3] -> float32, what the network takes; TensorFlow.
    pad: pixels around a training picture before it is cropped at random.
    cut: how photos of any size become pictures; None resizes them.
    balanced: whether the figure is balanced accuracy.
    hparams: defaults that differ from HPARAMS, and further ones.
    """

    size: int
    build: Callable[[int, dict[str, Any]], Any]
    load: Callable[[str], Any]
    prepare: input_pipeline.Prepare
    pad: int = 0
    cut: input_pipeline.Cut | None = None
    balanced: bool = False
    hparams: dict[str, Any] = field(default_factory=dict)

    @property
    def defaults(self) -> dict[str, Any]:
        """All settings that --hparams knows, with their defaults."""
        return {**HPARAMS, **self.hparams}

    @property
    def metric_name(self) -> str:
        return "balanced accuracy" if self.balanced else "accuracy"

    def metric(self, outputs: np.ndarray, labels: np.ndarray) -> float:
        """(logits, labels) -> share in 0..1."""
        return (report.balanced_accuracy if self.balanced else report.accuracy)(outputs, labels)


@dataclass(frozen=True)
class Arguments:
    """The flags of an example's main.py."""

    data: str
    workdir: Path
    float_model: str = ""
    epochs: int = 20
    branches: int = 2
    scheme: str = ""
    distill: float = 0.0
    seed: int = 0
    hparams: str = ""
    strategy: str = "none"
    patience: int = 0
    tensorboard: bool = False


@dataclass(frozen=True)
class Run:
    """What all stages of one run share. hparams: parsed. test: batches of the test set as the network takes them."""

    task: Task
    arguments: Arguments
    hparams: dict[str, Any]
    train: datasets.Stream
    test: Any
    labels: np.ndarray
    strategy: Any

    @property
    def chief(self) -> bool:
        return distribution.is_chief(self.strategy)


def run(task: Task, data: str, workdir: Path, **flags: Any) -> dict[str, Any]:
    """Everything from the data to results.json in `workdir`; `flags` are those of an example's main.py.

    Interrupted and started again with the same arguments it goes on after the last finished epoch.

    Returns: the results, as in results.json; of a worker that is not the chief, an empty dict.
    Raises ValueError on settings that do not fit the data or each other.
    """
    arguments = Arguments(data, Path(workdir), **flags)
    strategy = distribution.make_strategy(arguments.strategy)  # before anything else of TensorFlow
    hparams, scheme = _checked(task, arguments)
    work = _load(task, arguments, hparams, strategy)
    keras.utils.set_random_seed(arguments.seed)
    teacher, float_figures = _float_model(work)
    model, dbq_figures = _quantized_model(work, scheme, teacher) if arguments.branches else (None, {})
    if not work.chief:
        return {}
    return _measured(work, teacher, model, float_figures | dbq_figures)


def _checked(task: Task, arguments: Arguments) -> tuple[dict[str, Any], Any]:
    """The settings of --hparams and the scheme; everything that can be checked before the data is loaded is."""
    hparams = options.parse(arguments.hparams, task.defaults, "hparams", KINDS)
    if hparams["flip"] is None:
        hparams["flip"] = arguments.data != "digits"
    checks.number("distill", arguments.distill, 0, 1)
    checks.number("epochs", arguments.epochs, 1, 10**6)
    checks.number("branches", arguments.branches, 0, 2)  # three do not pack
    training.check_optimizer(hparams["optimizer"])
    checks.number("hparams batch_size", hparams["batch_size"], 1, 10**6)
    checks.workdir(arguments.workdir)
    checks.packages(*(["tensorboard"] if arguments.tensorboard else []))
    if not arguments.branches:
        return hparams, None
    checks.delegate()
    return hparams, checks.scheme(keras_dbq.DBQScheme, arguments.scheme, arguments.branches)


def _load(task: Task, arguments: Arguments, hparams: dict[str, Any], strategy: Any) -> Run:
    data, size = arguments.data, None if task.cut else task.size
    train, test = (datasets.stream(data, split, size, 3) for split in ("train", "test"))
    if not train.labelled and not (arguments.float_model and arguments.distill == 1):
        raise ValueError(f"--data {data}: has pictures without a label; they need --float_model and --distill=1")
    if not test.labelled:
        raise ValueError(f"--data {data}: expected labels for the test part, which measures, got pictures without")
    if train.count < hparams["batch_size"]:
        raise ValueError(f"--data {data}: expected pictures for a batch of {hparams['batch_size']}, got {train.count}")
    batches = input_pipeline.test_batches(test, TEST_BATCH, task.prepare, task.cut)
    return Run(task, arguments, hparams, train, batches, report.labels(batches), strategy)


def _key(work: Run) -> dict[str, Any]:
    """The settings that decide the float stage."""
    arguments = work.arguments
    names = ("data", "float_model", "epochs", "seed", "strategy", "patience")
    return {name: getattr(arguments, name) for name in names} | {"pictures": work.train.count} | work.hparams


def _dbq_key(work: Run, teacher: Any) -> dict[str, Any]:
    """The settings that decide the DBQ stage; the float model by what it is, not only by its file's name."""
    names = ("branches", "scheme", "distill")
    added = {name: getattr(work.arguments, name) for name in names}
    return _key(work) | added | {"float_model": [work.arguments.float_model, stages.fingerprint(teacher)]}


def _float_model(work: Run) -> tuple[Any, dict[str, Any]]:
    """The pretrained model, or one trained here, and its history."""
    if work.arguments.float_model:
        return _pretrained(work), {}
    stage = stages.open_stage(work.arguments.workdir, "float", _key(work), work.chief)
    if stage.finished:
        return stages.load(stage), {"float_history": stages.history(stage)}
    model = work.task.build(work.train.classes, work.hparams)
    print(f"float training, {model.count_params()} parameters", flush=True)
    settings = _settings(work, work.hparams["float_learning_rate"], work.hparams["float_weight_decay"])
    _train(work, stage, model, settings, lambda model, _: model)
    return model, {"float_history": stages.history(stage)}


def _pretrained(work: Run) -> Any:
    """The model of --float_model, which has to fit the pictures."""
    path, size = work.arguments.float_model, work.task.size
    if not Path(path).exists():
        raise ValueError(f"--float_model {path}: expected a file, found none; leave the flag out to train a model")
    model = work.task.load(path)
    shapes = model.input_shape[1:], model.output_shape[1:]
    if shapes[0] != (size, size, 3) or len(shapes[1]) != 1 or shapes[1][0] < work.train.classes:
        raise ValueError(
            f"--float_model {path}: expected a network from {size} x {size} x 3 to {work.train.classes} classes, got "
            f"{shapes[0]} to {shapes[1]}"
        )
    return model


def _quantized_model(work: Run, scheme: Any, teacher: Any) -> tuple[Any, dict[str, Any]]:
    """The DBQ model, trained from the float model `teacher`, and what is known of its training."""
    stage = stages.open_stage(work.arguments.workdir, "dbq", _dbq_key(work, teacher), work.chief)
    teacher, model = _before_training(work, scheme, teacher)
    outputs = report.predict("quantized model before training", model.predict_on_batch, work.test)
    untrained = work.task.metric(outputs, work.labels)
    print(f"{work.arguments.branches} branches, before training: {untrained:.4f}", flush=True)
    if stage.finished:
        model = stages.load(stage)
    else:
        settings = _settings(work, work.hparams["learning_rate"], work.hparams["weight_decay"])
        start = scheme.ternary["temperature"]
        _train(work, stage, model, settings, _student(work, teacher), _temperature(work, start))
    return model, {"untrained_accuracy": untrained, "history": stages.history(stage)}


def _before_training(work: Run, scheme: Any, teacher: Any) -> tuple[Any, Any]:
    """The float model, with dead channels filled where asked for, and its quantized form."""
    count, prepare = work.hparams["calibration"], work.task.prepare
    if work.hparams["fill_dead_channels"]:
        pictures = input_pipeline.first_pictures(work.train, 2 * count, prepare, work.task.cut)
        teacher, table = keras_dbq.fill_dead_channels(teacher, pictures, branches=work.arguments.branches)
        print(table, flush=True)
    calibration = input_pipeline.first_pictures(work.train, count, prepare, work.task.cut)
    return teacher, keras_dbq.quantize_model(teacher, scheme, calibration_data=calibration)


def _student(work: Run, teacher: Any) -> Callable[[Any, Any], Any]:
    """What makes the model that `fit` is called on: the quantized one itself, or a Distiller around it."""
    hparams, distill = work.hparams, work.arguments.distill
    if not distill and not hparams["hidden_weight"] and not hparams["fixed_statistics"]:
        return lambda model, _: model
    return lambda model, copy: Distiller(
        model,
        copy(teacher),
        train="all",
        loss="kl",
        hidden_weight=hparams["hidden_weight"] or 0.0,
        label_weight=1 - distill,
        temperature=hparams["distill_temperature"],
        fixed_statistics=hparams["fixed_statistics"],
    )


def _settings(work: Run, learning_rate: float, weight_decay: float) -> training.Settings:
    arguments, hparams = work.arguments, work.hparams
    return training.Settings(
        arguments.epochs,
        work.train.count // hparams["batch_size"],
        learning_rate,
        weight_decay,
        hparams["optimizer"],
        bool(hparams["bfloat16"]),
        arguments.patience,
        arguments.tensorboard,
    )


def _temperature(work: Run, start: float) -> list[Any]:
    """The callback that raises T from `start`; none where it stays."""
    end, steps = work.hparams["temperature_end"], work.train.count // work.hparams["batch_size"]
    return [] if end is None else [TemperatureSchedule(start=start, end=end, steps=work.arguments.epochs * steps)]


def _train(
    work: Run,
    stage: stages.Stage,
    model: Any,
    settings: training.Settings,
    student: Callable[[Any, Callable[[Any], Any]], Any],
    callbacks: Sequence[Any] = (),
) -> None:
    """Trains `model` with `fit` under the run's strategy and finishes the stage."""
    with distribution.replica(work.strategy, model) as (copy, own):
        trained = student(own, copy)
        metric = training.LabelledAccuracy(work.train.classes, work.task.balanced)
        loss = None if isinstance(trained, Distiller) else training.cross_entropy()
        trained.compile(training.make_optimizer(own.trainable_variables, settings), loss=loss, metrics=[metric])
    training.fit(trained, stage, settings, lambda first: _batches(work, first), work.test, "val_accuracy", callbacks)
    if own is not model:
        model.set_weights(own.get_weights())
    if work.chief:
        stages.finish(stage, model)


def _batches(work: Run, first: int) -> Any:
    hparams, arguments = work.hparams, work.arguments

    def augment(pictures: Any, seed: Any) -> Any:
        return input_pipeline.crop_and_flip(pictures, seed, work.task.pad, hparams["flip"])

    finish = input_pipeline.Steps(augment, work.task.prepare, work.task.cut)
    return input_pipeline.training_batches(
        work.train, hparams["batch_size"], arguments.seed, range(first, arguments.epochs), finish
    )


def _measured(work: Run, teacher: Any, model: Any, figures: dict[str, Any]) -> dict[str, Any]:
    """Measures float and quantized model and the exported files; writes results.json and prints the table."""
    arguments = {**vars(work.arguments), **work.hparams}
    arguments = {name: value for name, value in arguments.items() if name not in ("workdir", "hparams")}
    results: dict[str, Any] = {"arguments": arguments, "metric": work.task.metric_name, **figures}
    outputs = {"float": report.predict("float model", teacher.predict_on_batch, work.test)}
    if model is not None:
        outputs |= _exported(work, model, results)
    for name, values in outputs.items():
        results[f"{name}_accuracy"] = work.task.metric(values, work.labels)
    if model is not None:
        results["agreement_quantized_packed"] = report.agreement(outputs["quantized"], outputs["packed"])
        results["agreement_float_packed"] = report.agreement(outputs["float"], outputs["packed"])
        results["packed_differs_from_int8"] = int(np.sum(outputs["packed"] != outputs["int8"]))
    report.write_results(work.arguments.workdir / "results.json", results)
    print(report.result_table(results), flush=True)
    return results


def _exported(work: Run, model: Any, results: dict[str, Any]) -> dict[str, np.ndarray]:
    """Exports the trained model in both encodings; the outputs of both files and, its biases rounded, the model."""
    outputs = {}
    for encoding in ("int8", "packed"):
        file = work.arguments.workdir / f"{encoding}.tflite"
        exported = keras_dbq.export_tflite(model, str(file), encoding=encoding, strict=True)
        interpreter = keras_dbq.Interpreter(str(file), num_threads=2, delegate=encoding == "packed")
        outputs[encoding] = report.predict(file.name, interpreter.predict, work.test)
        results[f"{encoding}_bytes"] = file.stat().st_size
    print(exported, flush=True)
    outputs["quantized"] = report.predict("quantized model", model.predict_on_batch, work.test)
    return outputs
