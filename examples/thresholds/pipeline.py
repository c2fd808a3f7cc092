"""From a float model and unlabelled pictures to int8 files: calibrated, rescaled, thresholds trained, tuned."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import keras_dbq
from examples.common import checks, input_pipeline, options, report
from examples.common.input_pipeline import Prepare
from examples.thresholds import network, pictures
from keras_dbq import datasets
from keras_dbq._files import write_file
from keras_dbq._table import Table
from keras_dbq.compat import keras, tf
from keras_dbq.training.outputs import answer

REBUILT = ("ranges", "rescale", "equalize")  # stages that come before quantization
STAGES = (*REBUILT, "blocks", "thresholds", "pointwise", "all", "answers")
# What one stage does, for the table.
TITLES = {
    "ranges": "ranges evened",
    "rescale": "depthwise filters rescaled",
    "equalize": "layers equalized",
    "blocks": "trained block by block",
    "thresholds": "thresholds trained",
    "pointwise": "weights and biases tuned point by point",
    "all": "everything trained",
    "answers": "range of the answers chosen",
}
RATES = {"thresholds": "learning_rate", "pointwise": "tuning_rate", "all": "weights_rate"}  # their settings
HPARAMS: dict[str, Any] = {
    "seed": 0,  # of the choice and the order of the pictures
    "pictures": 1000,  # of --data, at most; drawn with the seed
    "calibration": 1000,  # of those, for ranges and, from 256 on, weights that make up for what is lost
    "method": "max",  # of calibration
    "batch_size": 32,
    "loss": None,  # this and the next four: None is what `keras_dbq.distill` takes for the stage
    "hidden_weight": None,
    "learning_rate": None,  # of "thresholds"
    "tuning_rate": None,  # of "pointwise"
    "weights_rate": None,  # of "all"
    "block_epochs": 24,  # of "blocks" (`keras_dbq.reconstruct`), for each block
    "cycles": 1,  # of the cosine, in each stage
    "metric": "accuracy",  # or "balanced"
}
KINDS = {"loss": str, **dict.fromkeys(("hidden_weight", *RATES.values()), float)}  # of those that are None
METRICS = {"accuracy": report.accuracy, "balanced": report.balanced_accuracy}
TEST_BATCH = 50  # pictures; it changes no result


@dataclass(frozen=True)
class Work:
    """One run: the float model, its data, and the results so far, to which every step adds.

    learn: uint8 [N, H, W, C].  measure: pictures and labels, if there are.  prepare: uint8 -> what the network takes.
    """

    model: Any
    learn: np.ndarray
    measure: pictures.Pictures
    prepare: Prepare
    workdir: Path
    settings: dict[str, Any]
    epochs: int
    results: dict[str, Any]
    float_outputs: np.ndarray

    @property
    def calibration(self) -> np.ndarray:
        """float32 pictures for the ranges."""
        return self.prepare(self.learn[: self.settings["calibration"]]).numpy()

    @cached_property
    def training(self) -> np.ndarray:
        """float32 pictures for the stages that train."""
        return self.prepare(self.learn).numpy()


def run(
    model: str,
    data: str,
    workdir: Path,
    test: str = "",
    value_range: str = "",
    scheme: str = "",
    stages: str | None = None,
    epochs: int = 3,
    stock: bool = True,
    hparams: str = "",
) -> dict[str, Any]:
    """Everything; the arguments are the flags of main.py. Returns the results, as in results.json."""
    settings, chosen = _settings(hparams), checks.scheme(keras_dbq.FATScheme, scheme)
    order = _order(stages, chosen)
    checks.number("epochs", epochs, 1, 10**6)
    keras.utils.set_random_seed(settings["seed"])
    float_model = network.load_model(model)
    prepare = network.preparation(float_model, value_range)
    learn, measure = _pictures(data, test, float_model.inputs[0].shape[1:], settings)
    checks.workdir(workdir)
    names = {"model": Path(model).name, "data": Path(data).name, "test": Path(test).name}
    schemes = options.scheme_options(keras_dbq.FATScheme, scheme)
    results = {"arguments": {**names, "scheme": schemes, "stages": order, "epochs": epochs, **settings}}
    work = _begin(float_model, learn, measure, prepare, workdir, settings, epochs, results)
    if stock:
        _stock(work)
    _quantized(work, chosen, order)
    results["peak_memory_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    report.write_results(workdir / "results.json", results)
    print(result_table(results), flush=True)
    return results


def _settings(hparams: str) -> dict[str, Any]:
    """The settings of --hparams.

    Raises ValueError for names, values and types that are not known.
    """
    settings = options.parse(hparams, HPARAMS, "hparams", KINDS)
    for name, allowed in {"metric": tuple(METRICS), "loss": (None, *keras_dbq.distillation.LOSSES)}.items():
        if settings[name] not in allowed:
            raise ValueError(
                f"--hparams: {name}: expected one of {', '.join(map(str, allowed))}, got {settings[name]!r}"
            )
    for name in ("pictures", "calibration", "batch_size", "cycles", "block_epochs"):
        checks.number(f"hparams {name}", settings[name], 1, 10**9)
    return settings


def _order(stages: str | None, scheme: Any) -> list[str]:
    if stages is None:
        stages = "equalize,thresholds,answers" if scheme.mode == "scalar" else "ranges,thresholds,answers"
    order = [s for s in stages.split(",") if s]
    if set(order) - set(STAGES) or set(REBUILT) & set(order[1:]):
        raise ValueError(
            f"--stages: expected some of {', '.join(STAGES)}; {' or '.join(REBUILT)} first, got {stages!r}"
        )
    if "ranges" in order and scheme.mode == "scalar":
        raise ValueError(
            "--stages: ranges expects one weight scale per channel (mode=vector), got mode=scalar; use equalize"
        )
    return order


def _pictures(data: str, test: str, shape: Any, settings: dict[str, Any]) -> tuple[np.ndarray, pictures.Pictures]:
    """The pictures to learn from, in an order drawn with the seed, and those that measure."""
    learn = pictures.load(data, *shape, part="train").x
    learn = learn[np.random.default_rng(settings["seed"]).permutation(len(learn))]
    if test:
        measure = pictures.load(test, *shape, part="test")
    else:  # every fifth picture measures; there are no labels to ask
        kept = max(len(learn) // 5, 1)
        measure, learn = pictures.Pictures(learn[:kept], None), learn[kept:]
    return learn[: settings["pictures"]], measure


def _begin(
    model: Any,
    learn: np.ndarray,
    measure: pictures.Pictures,
    prepare: Prepare,
    workdir: Path,
    settings: dict[str, Any],
    epochs: int,
    results: dict[str, Any],
) -> Work:
    """Measures the float model, with which all rows are compared."""
    print(f"{len(learn)} pictures to learn from, {len(measure.x)} to measure on", flush=True)
    outputs = report.predict("float model", model.predict_on_batch, _batches(measure, prepare))
    results |= {"rows": [], "metric": settings["metric"]}
    work = Work(model, learn, measure, prepare, workdir, settings, epochs, results, outputs)
    _add_row(work, "float", outputs, 0, 0.0)
    return work


def _batches(measure: pictures.Pictures, prepare: Prepare) -> Any:
    labels = np.full(len(measure.x), -1) if measure.y is None else measure.y
    return input_pipeline.test_batches(datasets.from_arrays(measure.x, labels, 0), TEST_BATCH, prepare)


def _add_row(work: Work, name: str, outputs: np.ndarray, size: int, seconds: float) -> None:
    metric, labels = METRICS[work.settings["metric"]], work.measure.y
    row = {
        "name": name,
        "accuracy": None if labels is None else metric(outputs, labels),
        "agreement": report.agreement(outputs, work.float_outputs),
        "bytes": size,
        "seconds": seconds,
    }
    work.results["rows"].append(row)
    text = "" if labels is None else f"{100 * row['accuracy']:.2f} %, "
    print(f"{name}: {text}agrees with float {100 * row['agreement']:.2f} %, {seconds:.1f} s", flush=True)


def _measured(work: Work, name: str, file: Path, seconds: float) -> None:
    interpreter = keras_dbq.Interpreter(str(file), num_threads=2, delegate=False)
    outputs = report.predict(file.name, interpreter.predict, _batches(work.measure, work.prepare))
    _add_row(work, name, outputs, file.stat().st_size, seconds)


def _stock(work: Work) -> None:
    """TensorFlow's own full-integer post-training quantization, on the same calibration pictures."""
    started = time.perf_counter()
    converter = tf.lite.TFLiteConverter.from_keras_model(work.model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([x[None]] for x in work.calibration)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    file = work.workdir / "stock.tflite"
    write_file(file, converter.convert())
    _measured(work, "stock post-training quantization", file, time.perf_counter() - started)


def _quantized(work: Work, scheme: Any, order: list[str]) -> None:
    """The stages in order, each exported and measured; the last file is int8.tflite."""
    started = time.perf_counter()
    rebuilt, trained = [s for s in order if s in REBUILT], [s for s in order if s not in REBUILT]
    source = work.model if not rebuilt else _rebuilt(work, rebuilt[0], scheme)
    model = keras_dbq.quantize_model(
        source, scheme, calibration_data=work.calibration, calibration=work.settings["method"]
    )
    name = ", ".join(["calibrated", *(TITLES[stage] for stage in rebuilt)])
    last = _exported(work, model, "calibrated", name, started)
    for stage in trained:
        started = time.perf_counter()
        if stage == "blocks":
            _reconstructed(work, model, source)
        elif stage == "answers":
            keras_dbq.calibrate_answers(model, work.calibration, _meant(model))
        else:
            work.results.setdefault("losses", {})[stage] = _trained(work, model, source, stage)
        last = _exported(work, model, stage, f"+ {TITLES[stage]}", started)
    final = work.workdir / "int8.tflite"
    write_file(final, last.read_bytes())
    checked = keras_dbq.verify(model, str(final), work.prepare(work.measure.x[:20]).numpy())
    work.results["verified"] = str(checked).splitlines()[-1]


def _rebuilt(work: Work, stage: str, scheme: Any) -> Any:
    """The float network with its filters brought to one size, or the ranges of its channels."""
    if stage == "ranges":
        bits = {"bits": scheme.bits, "activation_bits": scheme.get_config()["activation_bits"]}
        source, table = keras_dbq.even_ranges(work.model, work.calibration, **bits)
    else:
        change = keras_dbq.rescale_depthwise if stage == "rescale" else keras_dbq.equalize
        source, table = change(keras_dbq.fold_batch_norms(work.model), work.calibration)
    print(table, flush=True)
    return source


def _reconstructed(work: Work, model: Any, source: Any) -> None:
    """Trains the model block by block; blocks that an earlier run has finished are taken over."""
    result = keras_dbq.reconstruct(
        model,
        source,
        work.training,
        epochs=work.settings["block_epochs"],
        seed=work.settings["seed"],
        workdir=work.workdir / "blocks",
    )
    print(result, flush=True)


def _meant(model: Any) -> str:
    """What the outputs are: this program measures classes, so logits are those of a softmax."""
    ends = answer(model)
    return "softmax" if ends == "logits" else ends


def _trained(work: Work, model: Any, source: Any, stage: str) -> dict[str, list[float]]:
    """One stage of training, which ends with its best epoch or, where none is better, as it began; their losses."""
    settings = work.settings
    return keras_dbq.distill(
        model,
        source,
        work.training,
        train=stage,
        batch_size=settings["batch_size"],
        seed=settings["seed"],
        loss=settings["loss"],
        hidden_weight=settings["hidden_weight"],
        epochs=work.epochs,
        cycle_epochs=-(-work.epochs // settings["cycles"]),
        learning_rate=settings[RATES[stage]],
        verbose=1 if sys.stdout.isatty() else 2,
    )


def _exported(work: Work, model: Any, stage: str, name: str, started: float) -> Path:
    file = work.workdir / f"{stage}.tflite"
    keras_dbq.export_tflite(model, str(file), encoding="int8", strict=True)
    _measured(work, name, file, time.perf_counter() - started)
    return file


def result_table(results: dict[str, Any]) -> str:
    """The rows of one run as text."""
    labelled = results["rows"][0]["accuracy"] is not None
    table = Table(["network", *([results["metric"]] if labelled else []), "agrees with float", "bytes", "seconds"])
    for row in results["rows"]:
        accuracy = [f"{100 * row['accuracy']:.2f} %"] if labelled else []
        table.add(row["name"], *accuracy, f"{100 * row['agreement']:.2f} %", row["bytes"], round(row["seconds"], 1))
    return f"{table}\npeak memory {results['peak_memory_gib']:.1f} GiB; int8.tflite: {results['verified']}"
