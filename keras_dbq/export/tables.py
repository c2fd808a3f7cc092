"""Functions of one number as tables of 256 codes, looked up with stock operators.

choice: CAST int8 -> uint8 (code modulo 256), CAST -> int32, GATHER of the table: exact for any function, in every
runtime and on every machine, because the file holds what Keras computes and nothing is computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_dbq.reference.rounding import input_codes
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.operators import Grid

# choice: the marker of a table is a LEAKY_RELU of a slope that no network has; it holds the table's number, so that
# the converter cannot take two of them for one.
_FIRST_SLOPE = 2.0**20
_CODES = np.arange(-128, 128)


def marker_slope(number: int) -> float:
    """The slope of the marker of this number; float32 holds it exactly."""
    return _FIRST_SLOPE + number


def marked(model: Any, operator: Any) -> int | None:
    """The number of the table that an operator stands for; None where it stands for itself."""
    if fb.op_name(model, operator) != "LEAKY_RELU" or operator.builtinOptions.alpha < _FIRST_SLOPE:
        return None
    return round(operator.builtinOptions.alpha - _FIRST_SLOPE)


def table(function: Callable[[np.ndarray], np.ndarray], source: Grid, target: Grid) -> np.ndarray:
    """int8 [256]: the code of function(real) for every code, at the code modulo 256.

    source: as training computes it, float32 on the grid of the input and fake-quant of the result (`input_codes`).
    """
    real = (_CODES.astype(np.float32) - np.float32(source.zero_point)) * np.float32(source.scale)
    values = function(real)
    if np.isnan(values).any():
        raise ValueError(
            f"a function of one number: expected a value for every code, got NaN for {real[np.isnan(values)][0]:g}; "
            "keep its input where it is defined, with a ReLU or tf.maximum"
        )
    codes = input_codes(values, np.float32(target.scale), target.zero_point, target.bottom)
    return np.roll(codes.astype(np.int8), 128)
