"""The Visual Wake Words example: MobileNetV1 0.25 at 96 x 96, tuned by distillation from its float self."""

from __future__ import annotations

from typing import Any

import numpy as np

from examples.common.task import Task
from keras_dbq import models
from keras_dbq.compat import tf
from keras_dbq.keras3 import load_model
from keras_dbq.training import distillation

SIZE = 96  # pixels


def build(classes: int, hparams: dict[str, Any]) -> Any:
    """An untrained MobileNetV1 of width hparams["alpha"]."""
    return models.mobilenet_v1((SIZE, SIZE, 3), classes, alpha=hparams["alpha"], activation="relu")


def load(path: str) -> Any:
    """A .keras or .h5 model; a softmax in its last layer is left out, so that it gives logits."""
    return distillation.logits_model(load_model(path))


def prepare(pictures: Any) -> Any:
    """uint8 [N, H, W, 3] -> float32 in [0, 1]."""
    return tf.cast(pictures, tf.float32) * np.float32(1 / 255)


TASK = Task(
    size=SIZE,
    build=build,
    load=load,
    prepare=prepare,
    pad=8,
    balanced=True,
    hparams={"alpha": 0.25, "batch_size": 64, "optimizer": "adam", "learning_rate": 1e-3, "distill_temperature": 1.0},
)
