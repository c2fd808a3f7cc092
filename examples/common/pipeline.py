"""What every example does: float model, DBQ training from it, export, both files measured, results.json, a table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import keras_dbq
from examples.common import distribution, input_pipeline, report, stages, training
from examples.common.task import Task
from examples.common.work import Arguments, Run, check, dbq_key, float_key, load
from keras_dbq.compat import keras
from keras_dbq.training.callbacks import TemperatureSchedule
from keras_dbq.training.distiller import Distiller


def run(task: Task, data: str, workdir: Path, **flags: Any) -> dict[str, Any]:
    """Everything from the data to results.json in `workdir`; `flags` are those of an example's main.py.

    Interrupted and started again with the same arguments it goes on after the last finished epoch.

    Returns: the results, as in results.json; of a worker that is not the chief, an empty dict.
    Raises ValueError on settings that do not fit the data or each other.
    """
    arguments = Arguments(data, Path(workdir), **flags)
    strategy = distribution.make_strategy(arguments.strategy)  # before anything else of TensorFlow
    hparams, scheme = check(task, arguments)
    work = load(task, arguments, hparams, strategy)
    keras.utils.set_random_seed(arguments.seed)
    teacher, float_figures = _float_model(work)
    model, dbq_figures = _quantized_model(work, scheme, teacher) if arguments.branches else (None, {})
    if not work.chief:
        return {}
    return _measured(work, teacher, model, float_figures | dbq_figures)


def _float_model(work: Run) -> tuple[Any, dict[str, Any]]:
    """The pretrained model, or one trained here, and its history."""
    if work.arguments.float_model:
        return _pretrained(work), {}
    stage = stages.open_stage(work.arguments.workdir, "float", float_key(work), work.chief)
    if stage.finished:
        return stages.load(stage), {"float_history": stages.history(stage)}
    model = work.task.build(work.train.classes, work.hparams)
    print(f"float training, {model.count_params()} parameters", flush=True)
    settings = _settings(work, work.hparams["float_learning_rate"], work.hparams["float_weight_decay"])
    train(work, stage, model, settings, lambda model, _: model)
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
    stage = stages.open_stage(work.arguments.workdir, "dbq", dbq_key(work, teacher), work.chief)
    teacher, model, figures = _before_training(work, scheme, teacher)
    outputs = report.predict("quantized model before training", model.predict_on_batch, work.test)
    untrained = work.task.metric(outputs, work.labels)
    print(f"{work.arguments.branches} branches, before training: {untrained:.4f}", flush=True)
    if stage.finished:
        model = stages.load(stage)
    elif not work.arguments.epochs:
        stages.finish(stage, model)
    else:
        settings = _settings(work, work.hparams["learning_rate"], work.hparams["weight_decay"])
        start = scheme.ternary["temperature"]
        train(work, stage, model, settings, _student(work, teacher), _temperature(work, start))
    return model, {**figures, "untrained_accuracy": untrained, "history": stages.history(stage)}


def _before_training(work: Run, scheme: Any, teacher: Any) -> tuple[Any, Any, dict[str, Any]]:
    """The float model, made ready where asked for, its quantized form, and how long that took."""
    started = time.monotonic()
    count, prepare = work.hparams["calibration"], work.task.prepare
    if work.hparams["fill_dead_channels"]:
        # The more, the surer what is dead; but 1,000 are what examples without labels may take.
        enough = max(count, min(2 * count, 1000))
        pictures = input_pipeline.first_pictures(work.train, enough, prepare, work.task.cut)
        teacher, table = keras_dbq.fill_dead_channels(teacher, pictures, branches=work.arguments.branches)
        print(table, flush=True)
    calibration = input_pipeline.first_pictures(work.train, count, prepare, work.task.cut)
    if work.hparams["basis_rounds"]:
        options = {"branches": work.arguments.branches, "rounds": work.hparams["basis_rounds"]}
        teacher, table = keras_dbq.change_basis(teacher, calibration, **options)
        print(table, flush=True)
    if work.hparams["even_ranges"]:
        # A ternary weight of 1 or 2 branches has about as many levels as one of 2 or 3 bits.
        teacher, table = keras_dbq.even_ranges(teacher, calibration, bits=work.arguments.branches + 1)
        print(table, flush=True)
    model = keras_dbq.quantize_model(teacher, scheme, calibration_data=calibration)
    if work.hparams["reconstruct_epochs"]:
        _reconstruct(work, model, teacher, calibration)
    if work.hparams["distill_epochs"]:
        _distill(work, model, teacher, calibration)
    if not work.arguments.epochs:  # training moves ranges
        before, after = keras_dbq.calibrate_answers(model, calibration, "softmax")
        print(f"divergence of answers by the rounding of outputs, {before:.3g} to {after:.3g} nats", flush=True)
    seconds = time.monotonic() - started
    print(f"quantized in {seconds:.0f} s", flush=True)
    return teacher, model, {"quantized_in_seconds": round(seconds)}


def _reconstruct(work: Run, model: Any, teacher: Any, pictures: Any) -> None:
    """Trains the quantized model block by block; blocks that an earlier run has finished are taken over."""
    options = {"epochs": work.hparams["reconstruct_epochs"], "mirror": work.hparams["flip"], "answers": "softmax"}
    workdir = work.arguments.workdir / "blocks" if work.chief else None
    print(keras_dbq.reconstruct(model, teacher, pictures, **options, workdir=workdir), flush=True)


def _distill(work: Run, model: Any, teacher: Any, pictures: Any) -> None:
    """Trains the quantized model as a whole on what the calibration pictures become; a killed run goes on."""
    hparams = work.hparams
    ways = [way for way in hparams["distill_augment"].split("+") if hparams["flip"] or way != "mirror"]
    keras_dbq.distill(
        model,
        teacher,
        pictures,
        train="all",
        epochs=hparams["distill_epochs"],
        learning_rate=hparams["distill_learning_rate"],
        hidden_weight=hparams["distill_hidden_weight"],
        batch_size=hparams["distill_batch_size"],
        codes=hparams["distill_codes"],
        augment=ways,
        seed=work.arguments.seed,
        workdir=work.arguments.workdir / "distilled" if work.chief else None,
        verbose=2,
    )


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


def train(
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
        outputs |= exported(work, model, results)
    for name, values in outputs.items():
        results[f"{name}_accuracy"] = work.task.metric(values, work.labels)
    if model is not None:
        results["agreement_quantized_packed"] = report.agreement(outputs["quantized"], outputs["packed"])
        results["agreement_float_packed"] = report.agreement(outputs["float"], outputs["packed"])
        results["packed_differs_from_int8"] = int(np.sum(outputs["packed"] != outputs["int8"]))
    report.write_results(work.arguments.workdir / "results.json", results)
    print(report.result_table(results), flush=True)
    return results


def exported(work: Run, model: Any, results: dict[str, Any]) -> dict[str, np.ndarray]:
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
