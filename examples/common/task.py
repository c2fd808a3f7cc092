"""What sets one example apart from the others, and the settings that all of them have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from examples.common import input_pipeline, report

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
    "reconstruct_epochs": 0,  # of each block on the calibration pictures, before training (`keras_dbq.reconstruct`)
    # Of the whole network on the same pictures, behind that and without labels: arguments of `keras_dbq.distill`.
    "distill_epochs": 0,
    "distill_codes": "latent",
    "distill_augment": "shift+mirror+mix",
    "distill_learning_rate": None,
    "distill_hidden_weight": None,
    "distill_batch_size": 32,
    "basis_rounds": 0,  # of another basis of linear bottlenecks (`keras_dbq.change_basis`); 0: they keep their own
    "fill_dead_channels": False,  # of the float model, before it is quantized, for ternary weights with less error
    "even_ranges": False,  # of the channels of the float model, behind both (`keras_dbq.even_ranges`)
    "hidden_weight": None,  # of the float network's hidden activations in the loss; None: not looked at
    "fixed_statistics": False,  # DBQ training: keep the calibrated batch norm statistics and activation ranges
    "bfloat16": None,  # True: convolutions of training steps in bfloat16, for CPUs with AMX or AVX512-BF16
}
KINDS: dict[str, type] = {
    "flip": bool,
    "distill_learning_rate": float,
    "distill_hidden_weight": float,
    "temperature_end": float,
    "hidden_weight": float,
    "bfloat16": bool,
}


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
    pixels: further ways to prepare, for networks that take other inputs; --hparams pixels=NAME chooses one.
    """

    size: int
    build: Callable[[int, dict[str, Any]], Any]
    load: Callable[[str], Any]
    prepare: input_pipeline.Prepare
    pad: int = 0
    cut: input_pipeline.Cut | None = None
    balanced: bool = False
    hparams: dict[str, Any] = field(default_factory=dict)
    pixels: dict[str, input_pipeline.Prepare] = field(default_factory=dict)

    @property
    def defaults(self) -> dict[str, Any]:
        """All settings that --hparams knows, with their defaults."""
        return {**HPARAMS, **({"pixels": "own"} if self.pixels else {}), **self.hparams}

    def chosen(self, hparams: dict[str, Any]) -> Task:
        """The task that prepares pictures as the settings say.

        Raises:
          ValueError: an unknown name.
        """
        name = hparams.get("pixels", "own")
        if name != "own" and name not in self.pixels:
            names = ", ".join(["own", *self.pixels])
            raise ValueError(f"--hparams pixels: expected one of {names}, got {name!r}")
        return self if name == "own" else replace(self, prepare=self.pixels[name])

    @property
    def metric_name(self) -> str:
        return "balanced accuracy" if self.balanced else "accuracy"

    def metric(self, outputs: np.ndarray, labels: np.ndarray) -> float:
        """(logits, labels) -> share in 0..1."""
        return (report.balanced_accuracy if self.balanced else report.accuracy)(outputs, labels)
