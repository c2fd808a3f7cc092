"""One run of an example: its flags checked, its data opened, and the settings that decide each of its stages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import keras_dbq
from examples.common import checks, distribution, input_pipeline, options, report, stages, training
from examples.common.task import KINDS, Task
from keras_dbq import _checks, datasets
from keras_dbq.training.augmentation import WAYS
from keras_dbq.training.distillation import CODES

TEST_BATCH = 250  # pictures; it changes no result


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


def check(task: Task, arguments: Arguments) -> tuple[dict[str, Any], Any]:
    """The settings of --hparams and the scheme; everything that can be checked before the data is loaded is."""
    hparams = options.parse(arguments.hparams, task.defaults, "hparams", KINDS)
    if hparams["flip"] is None:
        hparams["flip"] = arguments.data != "digits"
    checks.number("distill", arguments.distill, 0, 1)
    checks.number("epochs", arguments.epochs, 0 if arguments.float_model and arguments.branches else 1, 10**6)
    checks.number("branches", arguments.branches, 0, 2)  # three do not pack
    training.check_optimizer(hparams["optimizer"])
    checks.number("hparams batch_size", hparams["batch_size"], 1, 10**6)
    for name in ("basis_rounds", "reconstruct_epochs", "distill_epochs"):  # they come behind the float training
        checks.number(f"hparams {name}", hparams[name], 0, 10_000)
    checks.number("hparams distill_batch_size", hparams["distill_batch_size"], 1, 10**6)
    _checks.one_of("--hparams distill_codes", hparams["distill_codes"], CODES)
    for way in hparams["distill_augment"].split("+"):
        _checks.one_of("--hparams distill_augment", way, WAYS)
    checks.workdir(arguments.workdir)
    checks.packages(*(["tensorboard"] if arguments.tensorboard else []))
    if not arguments.branches:
        return hparams, None
    checks.delegate()
    return hparams, checks.scheme(keras_dbq.DBQScheme, arguments.scheme, arguments.branches)


def load(task: Task, arguments: Arguments, hparams: dict[str, Any], strategy: Any) -> Run:
    task = task.chosen(hparams)
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


def float_key(work: Run) -> dict[str, Any]:
    """The settings that decide the float stage."""
    arguments = work.arguments
    names = ("data", "float_model", "epochs", "seed", "strategy", "patience")
    return {name: getattr(arguments, name) for name in names} | {"pictures": work.train.count} | work.hparams


def dbq_key(work: Run, teacher: Any) -> dict[str, Any]:
    """The settings that decide the DBQ stage; the float model by what it is, not only by its file's name."""
    names = ("branches", "scheme", "distill")
    added = {name: getattr(work.arguments, name) for name in names}
    return float_key(work) | added | {"float_model": [work.arguments.float_model, stages.fingerprint(teacher)]}
