"""Which range of pictures a network was trained on: its first layers tell."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_dbq.calibration.plausibility import first_moments
from keras_dbq.command.ranges import COLOUR, RANGES, scaled
from keras_dbq.compat import keras
from keras_dbq.network.graph import Graph
from keras_dbq.wrapping import wrappers

# choice, measured on MobileNetV1 (-1..1), vww_96 (0..1) and ResNet-8 (0..255) with their published weights: the right
# range is 0.01 to 0.03 away, the next one 0.08 to 0.56, 8 times as far and more.
_NEAR, _CLEARLY = 0.2, 3.0
# choice: of two ranges one covers at most half of the other (-1..1, 0..1); a trained range may have half of its width.
_COVERED, _SECOND = 0.3, 0.75


def find_range(model: keras.Model, pictures: np.ndarray) -> str | None:
    """The range of pictures that a network was trained on; None where it does not show.

    A quantized network has the range of its input in its input's quantizer: it is the one that the pictures fill best.
    A float network whose first layer is Rescaling or Normalization takes 0..255. Else the first trained batch norm
    tells: its mean and variance were measured in training, and each range gives other ones. derived: the distance of a
    range is the median over channels of the divergence of two normal distributions, (v/V + (m - M)^2/V - 1 -
    log(v/V)) / 2, with m, v of the pictures and M, V of the batch norm.

    Args:
      model: tf_keras model of one input, float or quantized.
      pictures: uint8 [N, H, W, C] of the kind that the network is for, a dozen or more.
    """
    first = Graph(model).nodes[0].layer
    quantized = wrappers.quantized_output(first)
    if quantized is not None:
        low, high = (float(bound) for bound in quantized.quantizer.range(quantized.variables))
        return _by_bounds(low, high, pictures)
    if type(first).__name__ in ("Rescaling", "Normalization"):
        return "0..255"
    distances = {name: _distance(model, scaled(pictures, name)) for name in _names(pictures)}
    known = sorted((distance, name) for name, distance in distances.items() if distance is not None)
    if not known or known[0][0] > _NEAR or known[1][0] < _CLEARLY * known[0][0]:
        return None
    return known[0][1]


def _names(pictures: np.ndarray) -> list[str]:
    return [name for name in RANGES if name not in COLOUR or pictures.shape[-1] == 3]


def _by_bounds(low: float, high: float, pictures: np.ndarray) -> str | None:
    """The range in which pictures cover [low, high] best: the intersection of both intervals over their union."""
    covered = []
    for name in _names(pictures):
        x = scaled(pictures, name)
        bottom, top = min(0.0, float(x.min())), float(x.max())
        common = max(0.0, min(high, top) - max(low, bottom))
        covered.append((common / (max(high, top) - min(low, bottom)), name))
    (best, name), (second, _) = sorted(covered, reverse=True)[:2]
    return name if best > _COVERED and second < _SECOND * best else None


def _distance(model: keras.Model, batch: np.ndarray) -> float | None:
    found: Any = first_moments(model, [batch])
    if found is None:
        return None
    live = found.own_variance > 1e-3 * np.median(found.own_variance)  # a dead channel says nothing
    ratio = found.variance[live] / found.own_variance[live]
    away = (found.mean[live] - found.own_mean[live]) ** 2 / found.own_variance[live]
    return float(np.median((ratio + away - 1 - np.log(np.maximum(ratio, 1e-30))) / 2))
