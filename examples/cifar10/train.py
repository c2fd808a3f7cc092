"""The CIFAR-10 example: ResNet-20 (or another depth), from published float weights or from scratch."""

from __future__ import annotations

from typing import Any

from examples.cifar10 import input_pipeline
from examples.common import pipeline
from keras_dbq import models
from keras_dbq.compat import keras

SIZE = 32  # pixels


def build(classes: int, hparams: dict[str, Any]) -> Any:
    """An untrained ResNet of hparams["depth"] layers."""
    return models.resnet_cifar(hparams["depth"], (SIZE, SIZE, 3), classes)


def load(path: str) -> Any:
    """A .keras or .h5 model, or ResNet-20 with the weights of an .npz."""
    return models.resnet20_from_npz(path) if path.endswith(".npz") else keras.models.load_model(path, compile=False)


TASK = pipeline.Task(
    size=SIZE,
    build=build,
    load=load,
    prepare=input_pipeline.normalise,
    batches=input_pipeline.batches,
    hparams={"depth": 20},  # of the ResNet, 6n + 2
)
