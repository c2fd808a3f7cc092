"""Whether calibration data look like what the network was trained on: its first batch norm remembers."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np

from keras_dbq.compat import keras
from keras_dbq.network.batch_norm import axes, is_batch_norm
from keras_dbq.network.graph import Graph, inputs

# choice: pictures in 0..255 instead of 0..1 make 65,025; other crops and other lighting less than 3.
VARIANCE_RATIO = 100.0


def warn_of_other_scale(model: keras.Model, batch: list[Any]) -> None:
    """Warns where data are scaled in another way than the training data were.

    derived: a trained batch norm has the mean and variance of its input in training. Calibration data with 100 times
    the variance or a hundredth of it (the median of all channels), or with a mean that is 10 deviations away, give
    ranges that real data do not fill or do not fit.

    Args:
      model: the float model, flat.  batch: one array per input of the model.
    """
    found = first_moments(model, batch)
    if found is None:
        return
    deviation = np.sqrt(found.own_variance)
    ratio = float(np.median(found.variance / found.own_variance))
    away = np.abs(found.mean - found.own_mean) / deviation
    if not 1 / VARIANCE_RATIO <= ratio <= VARIANCE_RATIO or np.median(away) > np.sqrt(VARIANCE_RATIO):
        warnings.warn(
            f"calibration data: at batch norm {found.name!r} their variance is {ratio:.3g} times that of the "
            f"training data, their mean {np.median(away):.3g} deviations away (medians of its channels): are they "
            "scaled as the pictures that the network was trained on?",
            stacklevel=3,
        )


class Moments(NamedTuple):
    """What a batch norm sees of some data, and what it saw in training (with its epsilon); float64 [channels]."""

    name: str
    mean: np.ndarray
    variance: np.ndarray
    own_mean: np.ndarray
    own_variance: np.ndarray


def first_moments(model: keras.Model, batch: list[Any]) -> Moments | None:
    """The moments at the first trained batch norm of a float model; None where there is none."""
    node = next((n for n in Graph(model).nodes if is_batch_norm(n.layer) and _is_trained(n.layer)), None)
    if node is None:
        return None
    own_mean, own_variance = (np.asarray(v, np.float64) for v in (node.layer.moving_mean, node.layer.moving_variance))
    values = np.asarray(keras.Model(model.inputs, inputs(node)[0])(batch, training=False), np.float64)
    rest = tuple(axis for axis in range(values.ndim) if axis not in axes(node.layer, values.ndim))
    return Moments(
        node.layer.name,
        values.mean(rest).reshape(-1),
        values.var(rest).reshape(-1),
        own_mean.reshape(-1),
        own_variance.reshape(-1) + node.layer.epsilon,
    )


def _is_trained(norm: Any) -> bool:
    """Whether a batch norm has statistics of its own: fresh ones are mean 0 and variance 1."""
    return bool(np.any(np.asarray(norm.moving_mean)) or np.any(np.asarray(norm.moving_variance) != 1))
