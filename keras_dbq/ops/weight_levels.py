"""The weights that a column of a kernel may hold: digits times scales, each column with scales of its own.

Notation: digits d [B], scales s [B]; a weight is sum_j d_j s_j. Numpy in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from keras_dbq.limits import TOP_LEVEL
from keras_dbq.ops.fitting import LARGEST_SECOND, digit_table, fit_branch_scales

# wanted weights [M] -> (digits int8 [B, M], the weights that they make [M])
Picker = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

# choice: steps of a linear grid that are looked at, as shares of the one whose largest level is the largest weight.
_LINEAR_STEPS = np.geomspace(1.0, 0.2, 17)


class WeightLevels(Protocol):
    """One family of levels. Codes are digits of a kernel, int8 [B, K, M], scales float64 [B, M]."""

    def fit(self, w: np.ndarray) -> np.ndarray:
        """Scales near whose levels the columns of w [K, M] are."""

    def picker(self, scales: np.ndarray) -> Picker:
        """Finds the levels nearest to one row of wanted weights."""

    def form(self, codes: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(codes, parts [B, M], unit [M]): scales as parts * unit, with the parts that a file can hold; the unit is
        free.
        """

    def allowed(self, codes: np.ndarray) -> np.ndarray:
        """Columns that a layer can hold, bool [M]."""


@dataclass(frozen=True)
class TernaryLevels:
    """Sums of ternary branches: digits -1, 0 and 1, scales p * unit with whole p that sum to 127."""

    branches: int

    def fit(self, w: np.ndarray) -> np.ndarray:
        return fit_branch_scales(w, self.branches)

    def picker(self, scales: np.ndarray) -> Picker:
        digits = digit_table(self.branches).astype(np.int8)  # [L, B]
        levels, columns = digits @ scales, np.arange(scales.shape[1])

        def pick(wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            chosen = np.abs(levels - wanted).argmin(0)
            return digits[chosen].T, levels[chosen, columns]

        return pick

    def form(self, codes: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        codes = codes * np.where(scales < 0, -1, 1).astype(np.int8)[:, None]
        order = np.argsort(-np.abs(scales), 0, kind="stable")
        codes, scales = np.take_along_axis(codes, order[:, None], 0), np.take_along_axis(np.abs(scales), order, 0)
        total = np.maximum(scales.sum(0), np.finfo(np.float64).tiny)
        whole = np.rint(TOP_LEVEL * scales / total)
        if self.branches > 1:
            whole[1:] = np.minimum(whole[1:], LARGEST_SECOND[self.branches])
        whole[0] = TOP_LEVEL - whole[1:].sum(0)
        return codes, whole, total / TOP_LEVEL

    def allowed(self, codes: np.ndarray) -> np.ndarray:
        return np.ones(codes.shape[2], bool)


@dataclass(frozen=True)
class LinearLevels:
    """Whole numbers from -top to top times one step; the digit is that number.

    A column has a weight at -top or top, because its largest weight is what the step follows from.
    """

    top: int

    def fit(self, w: np.ndarray) -> np.ndarray:
        largest = np.abs(w).max(0)
        coarsest = np.where(largest > 0, largest, 1.0) / self.top
        steps = _LINEAR_STEPS[:, None] * coarsest
        errors = [np.square(np.clip(np.rint(w / step), -self.top, self.top) * step - w).sum(0) for step in steps]
        return np.take_along_axis(steps, np.argmin(errors, 0)[None], 0)

    def picker(self, scales: np.ndarray) -> Picker:
        step = scales[0]

        def pick(wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            digits = np.clip(np.rint(wanted / step), -self.top, self.top)
            return digits.astype(np.int8)[None], digits * step

        return pick

    def form(self, codes: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        sign = np.where(scales < 0, -1, 1)
        return codes * sign.astype(np.int8)[:, None], np.ones_like(scales), np.abs(scales[0])

    def allowed(self, codes: np.ndarray) -> np.ndarray:
        largest = np.abs(codes[0]).max(0)
        return (largest == self.top) | (largest == 0)
