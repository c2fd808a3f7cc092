"""The CIFAR-10 example: ResNet-20 (or another depth), from published float weights or from scratch."""

from __future__ import annotations

from typing import Any

import numpy as np

from examples.common.task import Task
from keras_dbq import models
from keras_dbq.compat import tf
from keras_dbq.keras3 import load_model
from keras_dbq.models.pretrained import RESNET20_MEAN, RESNET20_STD

SIZE = 32  # pixels


def build(classes: int, hparams: dict[str, Any]) -> Any:
    """An untrained ResNet of hparams["depth"] layers."""
    return models.resnet_cifar(hparams["depth"], (SIZE, SIZE, 3), classes)


def load(path: str) -> Any:
    """A .keras or .h5 model, or ResNet-20 with the weights of an .npz."""
    return models.resnet20_from_npz(path) if path.endswith(".npz") else load_model(path)


def normalise(pictures: Any) -> Any:
    """uint8 [N, H, W, 3] -> float32, (x / 255 - mean) / std per colour channel."""
    scale = np.float32(1) / (np.float32(255) * np.asarray(RESNET20_STD, np.float32))
    shift = np.asarray(RESNET20_MEAN, np.float32) / np.asarray(RESNET20_STD, np.float32)
    return tf.cast(pictures, tf.float32) * scale - shift


def as_they_are(pictures: Any) -> Any:
    """uint8 -> float32 from 0 to 255, which MLPerf Tiny's ResNet-8 takes."""
    return tf.cast(pictures, tf.float32)


TASK = Task(
    size=SIZE,
    build=build,
    load=load,
    prepare=normalise,
    pad=4,  # as in the paper of ResNet
    hparams={"depth": 20},  # of the ResNet, 6n + 2
    pixels={"bytes": as_they_are},
)
