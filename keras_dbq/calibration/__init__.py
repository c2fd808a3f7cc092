"""Calibration from unlabelled pictures: activation ranges, batch norm statistics, biases."""

from keras_dbq.calibration.ranges import (
    MeanSquaredError,
    MinMax,
    MovingAverage,
    Percentile,
    RangeEstimator,
    estimator,
    observe_ranges,
)
from keras_dbq.calibration.statistics import match_outputs, recalibrate_batch_norm
from keras_dbq.network.batches import Batches

__all__ = [
    "Batches",
    "MeanSquaredError",
    "MinMax",
    "MovingAverage",
    "Percentile",
    "RangeEstimator",
    "estimator",
    "match_outputs",
    "observe_ranges",
    "recalibrate_batch_norm",
]
