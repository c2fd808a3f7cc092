"""Step 1, step 2, fine-tuning, export and evaluation of VGG-small; each stage goes on where a killed run was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras_dbq
from examples.cifar10.train import SIZE, normalise
from examples.common import checks, distribution, options, pipeline, report
from examples.common.task import KINDS, Task
from examples.common.work import Arguments, Run, load
from examples.two_step.steps import SPARSITIES, Steps
from keras_dbq import models
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
        "relu_passes": 0,  # of step 2, see `solve_ternary`
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
    ablation: bool = False,
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
    steps = Steps(TASK, work, tune_epochs)
    return _measured(work, steps.run(first, branches, twn, ablation), steps.results)


def _measured(work: Run, model: Any, results: dict[str, Any]) -> dict[str, Any]:
    """Exports, measures the files, writes results.json and prints the table."""
    outputs = pipeline.exported(work, model, results)
    results |= {f"{name}_accuracy": TASK.metric(y, work.labels) for name, y in outputs.items()}
    results["packed_differs_from_int8"] = int((outputs["packed"] != outputs["int8"]).sum())
    arguments = {k: v for k, v in vars(work.arguments).items() if k not in ("workdir", "hparams")}
    everything = {"arguments": {**arguments, **work.hparams}, **results}
    report.write_results(work.arguments.workdir / "results.json", everything)
    print(_table(results), flush=True)
    return everything


_ROWS = {
    "float": "float",
    **{f"sparsity_{100 * s:g}": f"step 1, {100 * s:g} % zeros, float weights" for s in SPARSITIES},
    "step_1": "step 1",
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
