"""From a float model and unlabelled pictures to int8 files: calibrated, rescaled, thresholds trained, tuned."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import keras_dbq
from examples.common import options, report
from keras_dbq._files import write_file
from examples.thresholds import pictures
from keras_dbq._table import Table
from keras_dbq.compat import keras, tf

REBUILT = ("rescale", "equalize")  # stages that come before quantization
STAGES = (*REBUILT, "thresholds", "pointwise", "all")
# What one stage does, for the table.
TITLES = {
    "rescale": "depthwise filters rescaled",
    "equalize": "layers equalized",
    "thresholds": "thresholds trained",
    "pointwise": "weights and biases tuned point by point",
    "all": "everything trained",
}
HPARAMS: dict[str, Any] = {
    "seed": 0,  # of the choice and the order of the pictures
    "pictures": 1000,  # of --data, at most; drawn with the seed
    "calibration": 100,  # of those, for the ranges
    "method": "max",  # of calibration
    "batch_size": 20,
    "loss": "kl",
    "hidden_weight": 0.0,
    "learning_rate": 1e-2,  # of "thresholds": a factor has to get from 1 to 0.5 in some hundred steps of Adam
    "tuning_rate": 1e-4,  # of "pointwise"
    "weights_rate": 1e-5,  # of "all"
    "cycles": 1,  # of the cosine, in each stage
    "metric": "accuracy",  # or "balanced"
}


def load_model(path: str) -> Any:
    """A Keras model file (.keras, .h5, SavedModel folder), not compiled.

    Raises ValueError where there is none, or it has several inputs.
    """
    if not Path(path).exists():
        raise ValueError(f"--model {path}: expected a .keras or .h5 file or a SavedModel folder, found nothing")
    model = keras.models.load_model(path, compile=False)
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise ValueError(f"--model {path}: expected one input [N, H, W, C], got {[t.shape for t in model.inputs]}")
    return model


def preparation(model: Any, value_range: str) -> Callable[[Any], Any]:
    """uint8 pictures -> what the network takes: 0 becomes the range's first number, 255 its second.

    Raises:
      ValueError: no two numbers; or none given, and the network does not begin with a Rescaling or Normalization.
    """
    if not value_range:
        if not any(
            isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization)) for layer in model.layers[:3]
        ):
            raise ValueError(
                "--range: expected what the network takes for the pixel values 0 and 255, such as 0,1 or -1,1 (this "
                "network has no Rescaling layer that would say it), got nothing"
            )
        value_range = "0,255"
    try:
        low, high = (float(part) for part in value_range.split(","))
    except ValueError:
        raise ValueError(f"--range: expected two numbers such as -1,1, got {value_range!r}") from None
    step, low = np.float32((high - low) / 255), np.float32(low)
    return lambda x: tf.cast(x, tf.float32) * step + low if tf.is_tensor(x) else x.astype(np.float32) * step + low


def run(
    model: str,
    data: str,
    workdir: Path,
    test: str = "",
    value_range: str = "",
    scheme: str = "",
    stages: str = "thresholds",
    epochs: int = 3,
    stock: bool = True,
    hparams: str = "",
) -> dict[str, Any]:
    """Everything; the arguments are the flags of main.py. Returns the results, as in results.json."""
    settings = options.parse(hparams, HPARAMS, "hparams")
    order = [s for s in stages.split(",") if s]
    unknown = sorted(set(order) - set(STAGES))
    if unknown or set(REBUILT) & set(order[1:]):
        raise ValueError(
            f"--stages: expected some of {', '.join(STAGES)}; {' or '.join(REBUILT)} first, got {stages!r}"
        )
    seed = settings["seed"]
    keras.utils.set_random_seed(seed)
    float_model = load_model(model)
    shape = float_model.inputs[0].shape[1:]
    if None in tuple(shape):
        raise ValueError(f"--model {model}: expected an input of fixed size, got {tuple(shape)}")
    prepare = preparation(float_model, value_range)
    learn = pictures.load(data, *shape, part="train").x
    learn = learn[np.random.default_rng(seed).permutation(len(learn))]
    if test:
        measure = pictures.load(test, *shape, part="test")
        learn = learn[: settings["pictures"]]
    else:  # every fifth picture measures; there are no labels to ask
        kept = max(len(learn) // 5, 1)
        measure, learn = pictures.Pictures(learn[:kept], None), learn[kept:][: settings["pictures"]]
    workdir.mkdir(parents=True, exist_ok=True)
    work = _Work(float_model, learn, measure, prepare, workdir, settings, epochs)
    scheme_options = options.parse(scheme, flag="scheme")
    work.results["arguments"] = {
        "model": Path(model).name, "data": Path(data).name, "test": Path(test).name, "scheme": scheme_options,
        "stages": order, "epochs": epochs, **settings,
    }  # fmt: skip
    if stock:
        work.stock()
    work.quantized(scheme_options, list(order))
    work.results["peak_memory_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    report.write_results(workdir / "results.json", work.results)
    print(result_table(work.results), flush=True)
    return work.results


class _Work:
    """One run: data, settings, and the rows measured so far."""

    def __init__(
        self,
        model: Any,
        learn: np.ndarray,
        measure: pictures.Pictures,
        prepare: Callable[[Any], Any],
        workdir: Path,
        settings: dict[str, Any],
        epochs: int,
    ):
        self.model, self.learn, self.measure, self.prepare = model, learn, measure, prepare
        self.workdir, self.settings, self.epochs = workdir, settings, epochs
        self.calibration = prepare(learn[: settings["calibration"]])
        print(f"{len(learn)} pictures to learn from, {len(measure.x)} to measure on", flush=True)
        self.float_outputs = report.predict_in_blocks(model.predict_on_batch, measure.x, prepare, block=50)
        self.results: dict[str, Any] = {"rows": [], "metric": settings["metric"]}
        self._row("float", self.float_outputs, 0, 0.0)

    def _row(self, name: str, outputs: np.ndarray, size: int, seconds: float) -> None:
        metric = report.balanced_accuracy if self.settings["metric"] == "balanced" else report.accuracy
        accuracy = None if self.measure.y is None else metric(outputs, self.measure.y)
        row = {
            "name": name,
            "accuracy": accuracy,
            "agreement": report.agreement(outputs, self.float_outputs),
            "bytes": size,
            "seconds": seconds,
        }
        self.results["rows"].append(row)
        text = "" if accuracy is None else f"{100 * accuracy:.2f} %, "
        print(f"{name}: {text}agrees with float {100 * row['agreement']:.2f} %, {seconds:.1f} s", flush=True)

    def _measured(self, name: str, file: Path, seconds: float) -> None:
        interpreter = keras_dbq.Interpreter(str(file), num_threads=2, delegate=False)
        outputs = report.predict_in_blocks(interpreter.predict, self.measure.x, self.prepare, block=50)
        self._row(name, outputs, file.stat().st_size, seconds)

    def stock(self) -> None:
        """TensorFlow's own full-integer post-training quantization, on the same calibration pictures."""
        started = time.perf_counter()
        converter = tf.lite.TFLiteConverter.from_keras_model(self.model)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([x[None]] for x in np.asarray(self.calibration))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        file = self.workdir / "stock.tflite"
        write_file(file, converter.convert())
        self._measured("stock post-training quantization", file, time.perf_counter() - started)

    def quantized(self, scheme_options: dict[str, Any], order: list[str]) -> None:
        """The stages in order, each exported and measured."""
        started = time.perf_counter()
        source, name = self.model, "calibrated"
        if order and order[0] in REBUILT:
            stage = order.pop(0)
            change = keras_dbq.rescale_depthwise if stage == "rescale" else keras_dbq.equalize
            source, table = change(keras_dbq.fold_batch_norms(self.model), self.calibration)
            print(table, flush=True)
            name += ", " + TITLES[stage]
        model = keras_dbq.quantize_model(
            source,
            keras_dbq.FATScheme(**scheme_options),
            calibration_data=self.calibration,
            calibration=self.settings["method"],
        )
        last = self._exported(model, "calibrated", name, time.perf_counter() - started)
        for stage in order:
            started = time.perf_counter()
            self._trained(model, stage)
            last = self._exported(model, stage, f"+ {TITLES[stage]}", time.perf_counter() - started)
        final = self.workdir / "int8.tflite"
        write_file(final, last.read_bytes())
        checked = keras_dbq.verify(model, str(final), self.prepare(self.measure.x[:20]))
        self.results["verified"] = str(checked).splitlines()[-1]

    def _trained(self, model: Any, stage: str) -> None:
        rates = {"thresholds": "learning_rate", "pointwise": "tuning_rate", "all": "weights_rate"}
        settings = self.settings
        data = tf.data.Dataset.from_tensor_slices(self.learn)
        data = data.shuffle(len(self.learn), seed=settings["seed"]).batch(settings["batch_size"], drop_remainder=True)
        losses = keras_dbq.distill(
            model,
            self.model,
            data.map(self.prepare).prefetch(1),
            train=stage,
            loss=settings["loss"],
            hidden_weight=settings["hidden_weight"],
            epochs=self.epochs,
            cycle_epochs=-(-self.epochs // settings["cycles"]),
            learning_rate=settings[rates[stage]],
            verbose=1 if sys.stdout.isatty() else 2,
        )["loss"]
        self.results.setdefault("losses", {})[stage] = losses

    def _exported(self, model: Any, stage: str, name: str, seconds: float) -> Path:
        file = self.workdir / f"{stage}.tflite"
        keras_dbq.export_tflite(model, str(file), encoding="int8", strict=True)
        self._measured(name, file, seconds)
        return file


def result_table(results: dict[str, Any]) -> str:
    """The rows of one run as text."""
    labelled = results["rows"][0]["accuracy"] is not None
    table = Table(["network", *([results["metric"]] if labelled else []), "agrees with float", "bytes", "seconds"])
    for row in results["rows"]:
        accuracy = [f"{100 * row['accuracy']:.2f} %"] if labelled else []
        table.add(row["name"], *accuracy, f"{100 * row['agreement']:.2f} %", row["bytes"], round(row["seconds"], 1))
    return f"{table}\npeak memory {results['peak_memory_gib']:.1f} GiB; int8.tflite: {results['verified']}"
