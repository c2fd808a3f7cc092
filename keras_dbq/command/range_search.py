"""Which range of pictures a network was trained on: its first layers tell."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_dbq.calibration.plausibility import first_moments
from keras_dbq.command.ranges import COLOUR, RANGES, scaled
from keras_dbq.compat import keras
from keras_dbq.network.graph import Graph

# choice, measured on MobileNetV1 (-1..1), vww_96 (0..1) and ResNet-8 (0..255) with their published weights: the right
# range is 0.01 to 0.03 away, the next one 0.08 to 0.56, 8 times as far and more.
_NEAR, _CLEARLY = 0.2, 3.0


def find_range(model: keras.Model, pictures: np.ndarray) -> str | None:
    """The range of pictures that a network was trained on; None where it does not show.

    A network whose first layer is Rescaling or Normalization takes 0..255. Else the first trained batch norm tells: its
    mean and variance were measured in training, and each range gives other ones. derived: the distance of a range is
    the median over channels of the divergence of two normal distributions, (v/V + (m - M)^2/V - 1 - log(v/V)) / 2, with
    m, v of the pictures and M, V of the batch norm.

    Args:
      model: tf_keras model of one input.
      pictures: uint8 [N, H, W, C] of the kind that the network is for, a dozen or more.
    """
    first = Graph(model).nodes[0].layer
    if type(first).__name__ in ("Rescaling", "Normalization"):
        return "0..255"
    names = [name for name in RANGES if name not in COLOUR or pictures.shape[-1] == 3]
    distances = {name: _distance(model, scaled(pictures, name)) for name in names}
    known = sorted((distance, name) for name, distance in distances.items() if distance is not None)
    if not known or known[0][0] > _NEAR or known[1][0] < _CLEARLY * known[0][0]:
        return None
    return known[0][1]


def _distance(model: keras.Model, batch: np.ndarray) -> float | None:
    found: Any = first_moments(model, [batch])
    if found is None:
        return None
    live = found.own_variance > 1e-3 * np.median(found.own_variance)  # a dead channel says nothing
    ratio = found.variance[live] / found.own_variance[live]
    away = (found.mean[live] - found.own_mean[live]) ** 2 / found.own_variance[live]
    return float(np.median((ratio + away - 1 - np.log(np.maximum(ratio, 1e-30))) / 2))
