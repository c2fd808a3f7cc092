"""Activations of 1 to 4 bits with a threshold of their own (TSQ)."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_dbq import _checks
from keras_dbq.compat import keras, tf
from keras_dbq.ops import activations as activation_ops
from keras_dbq.ops import codes as code_ops
from keras_dbq.quantizers.base import ConfiguredQuantizer, Variables, add_variable
from keras_dbq.quantizers.registry import announce


@announce
class CodeQuantizer(ConfiguredQuantizer):
    """Activations that are never negative as codes 0 .. n of 1 to 4 bits (`ops.codes`).

    The variables threshold (eps) and high (n D) do not train. fit="gaussian": they are those of a normalised Gaussian
    before its ReLU. fit="data": calibration sets them, from the values that it sees.

    In the file the codes are zero point + 0 .. n, at the upper end of int8, where its saturation clips them.

    Args:
      bits: 1 to 4.
      sparsity: share of zeros, 0.5 to 0.95; None: eps is half of D, which is plain rounding.
      fit: "gaussian" or "data".

    Raises:
      ValueError: a value outside its range.
    """

    unsigned = True
    symmetric = False
    fixed: tuple[float, float] | None = None
    observing: Any = None  # see ActivationQuantizer

    def __init__(self, bits: int = 2, sparsity: float | None = None, fit: str = "gaussian"):
        self.bits = _checks.integer("activation bits", bits, 1, 4)
        self.sparsity = None if sparsity is None else _checks.number("sparsity", sparsity, 0.5, 0.95)
        self.fit = _checks.one_of("fit", fit, ("gaussian", "data"))
        wanted = code_ops.half_wave_gaussian(self.bits, self.sparsity)
        # choice: where the threshold is half a step but for a hundredth, it is half a step, for the file's sake.
        self.rounded = sparsity is None or (fit == "gaussian" and wanted.near_rounding)
        self._start = code_ops.half_wave_gaussian(self.bits) if self.rounded else wanted

    def describe(self) -> str:
        return f"{self.bits} bit"

    def build(self, tensor_shape: Any, name: str, layer: keras.layers.Layer) -> Variables:
        start = {"low": 0.0, "high": self._top * self._start.step, "threshold": self._start.threshold}
        return {suffix: add_variable(layer, f"{name}_{suffix}", value) for suffix, value in start.items()}

    @property
    def _top(self) -> int:
        return 2**self.bits - 1

    def range(self, variables: Variables, count: Any = 1.0) -> tuple[Any, Any]:
        """(0, n D), float32 scalars."""
        return tf.convert_to_tensor(variables["low"]), tf.convert_to_tensor(variables["high"])

    def __call__(self, inputs: Any, training: Any, weights: Variables, **kwargs: Any) -> Any:
        if self.bypass:
            return inputs
        if self.observing is not None:
            self.observing(weights, inputs)
            return inputs
        low, high = self.range(weights)
        step = activation_ops.grid_scale(low, high, self.bits)
        threshold = tf.convert_to_tensor(weights["threshold"])
        x = tf.cast(inputs, tf.float32)
        return tf.cast(code_ops.sparse_codes(x, threshold, step, self.bits, self.rounded), inputs.dtype)

    def calibrate(self, variables: Variables, low: float, high: float) -> None:
        """Sets threshold = low and n D = high, where they follow from data."""
        if self.fit == "data":
            variables["threshold"].assign(low)
            variables["high"].assign(high)

    def fitted(self, centres: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
        """(threshold, n D) of least squared error for values with these counts at ascending centres.

        The threshold is the quantile of the wanted sparsity, or half of the step.
        """
        threshold = None
        if self.sparsity is not None:
            below = np.searchsorted(np.cumsum(counts), self.sparsity * counts.sum())
            threshold = max(0.0, float(centres[min(below, len(centres) - 1)]))
        largest = float(centres[counts > 0][-1])
        starts = [fraction * largest / self._top for fraction in (1.0, 0.7, 0.5, 0.3, 0.2, 0.1)]
        codes = code_ops.fit_codes(self.bits, code_ops.histogram_moments(centres, counts), threshold, starts)
        return codes.threshold, self._top * codes.step

    def grid(self, variables: Variables) -> tuple[np.float32, int]:
        """Scale and int8 zero point."""
        return activation_ops.nudged_grid(0.0, variables["high"].numpy(), self.bits)
