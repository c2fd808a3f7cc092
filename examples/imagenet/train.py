"""The ImageNet example: photos of any size, read as a stream, and networks of 224 x 224 pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from examples.common.input_pipeline import Cut
from examples.common.task import Task
from keras_dbq import models
from keras_dbq.compat import tf
from keras_dbq.datasets.resizing import fitted
from keras_dbq.keras3 import load_model
from keras_dbq.training import distillation

SIZE = 224  # pixels
CENTRE = 0.875  # of the shorter side: the square that is measured, as with 224 of 256 pixels
NETWORKS = ("mobilenet_v2", "mobilenet_v1", "resnet")


def build(classes: int, hparams: dict[str, Any]) -> Any:
    """An untrained network of the kind hparams["network"].

    Raises ValueError for another kind.
    """
    shape = (SIZE, SIZE, 3)
    if hparams["network"] == "mobilenet_v2":
        return models.mobilenet_v2(shape, classes)
    if hparams["network"] == "mobilenet_v1":
        return models.mobilenet_v1(shape, classes, alpha=hparams["alpha"])
    if hparams["network"] == "resnet":
        return models.resnet_cifar(hparams["depth"], shape, classes)
    raise ValueError(f"--hparams: network: expected one of {', '.join(NETWORKS)}, got {hparams['network']!r}")


def load(path: str) -> Any:
    """A .keras or .h5 model; a softmax at its end is left out, so that it gives logits."""
    return distillation.logits_model(load_model(path))


def prepare(pictures: Any) -> Any:
    """uint8 [N, H, W, 3] -> float32 in [-1, 1]."""
    return tf.cast(pictures, tf.float32) * np.float32(2 / 255) - np.float32(1)


def random_cut(photo: Any, seed: Any) -> Any:
    """A rectangle of 8 to 100 % of the area and sides of 3:4 to 4:3, resized to SIZE x SIZE.

    source: Szegedy et al., arXiv 1409.4842. photo: uint8 [H, W, 3]; seed: int64 [2]. Returns uint8 [SIZE, SIZE, 3].
    """
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(photo),
        tf.zeros([1, 0, 4]),
        seed,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    return _resized(tf.slice(photo, begin, size))


def centre_cut(photo: Any) -> Any:
    """The square of CENTRE times the shorter side in the middle, resized to SIZE x SIZE; uint8.

    A photo of SIZE x SIZE was cut before, and stays.
    """
    height, width = tf.shape(photo)[0], tf.shape(photo)[1]
    share = tf.where((height == SIZE) & (width == SIZE), 1.0, CENTRE)
    side = tf.cast(share * tf.cast(tf.minimum(height, width), tf.float32), tf.int32)
    top, left = (height - side) // 2, (width - side) // 2
    return _resized(photo[top : top + side, left : left + side])


def _resized(picture: Any) -> Any:
    picture.set_shape([None, None, 3])
    return fitted(picture, SIZE, 3)


TASK = Task(
    size=SIZE,
    build=build,
    load=load,
    prepare=prepare,
    cut=Cut(random_cut, centre_cut),
    hparams={"network": "mobilenet_v2", "alpha": 0.25, "depth": 20},
)
