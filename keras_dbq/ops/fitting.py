"""Branch scales fitted to float weights: numpy in float64, without TensorFlow and without gradients.

Notation as in `branches`: weights as columns w [K, M], branch scales alpha [B, M].
"""

import functools
import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

# choice: columns are fitted in groups of so many weights (8 MB each in float64), so that a layer of 100 million needs
# no gigabytes, and on all cores: columns know nothing of each other.
_WEIGHTS_AT_ONCE = 2**20
_NUMBERS_IN_CACHE = 2**16
# By branches: the largest integer scale of those behind the first; more would not keep two branches apart (p > q).
LARGEST_SECOND = {2: 63, 3: 42}


@functools.cache
def digit_table(branches: int) -> np.ndarray:
    """All codes as float32 [3**B, B]; branch 1 varies slowest, so the order is ascending when p_j >= 2 * p_{j+1}."""
    return np.array(list(itertools.product((-1, 0, 1), repeat=branches)), np.float32)


def optimal_ternary(w: np.ndarray) -> np.ndarray:
    """Branch scale alpha [1, M] of the least-squares ternary of each column of w [K, M].

    derived: with |w| sorted descending, r* = argmax_r (sum of top r)**2 / r, alpha = mean of the top r*; the threshold
    alpha / 2 selects exactly these r*. A column of zeros gets alpha = 1 (all codes are 0 whatever the scale).
    """
    magnitude = np.sort(np.abs(np.ascontiguousarray(np.asarray(w, np.float64).T)), 1)[:, ::-1]  # [M, K]
    total = np.cumsum(magnitude, 1)
    best = np.argmax(total**2 / np.arange(1, len(w) + 1), 1)
    alpha = total[np.arange(w.shape[1]), best] / (best + 1)
    return np.where(alpha > 0, alpha, 1.0)[None]


def float_levels(alpha: np.ndarray) -> np.ndarray:
    """The levels of branch scales alpha [B, M] before they are snapped to integers: float64 [3**B, M], not sorted."""
    return digit_table(len(alpha)).astype(np.float64) @ alpha


def fit_branch_scales(w: np.ndarray, branches: int, iterations: int = 30) -> np.ndarray:
    """Branch scales float64 [B, M] that fit the columns of w [K, M] best.

    B = 1: the optimum. More branches: from (0.9, 0.3, ...) times that, alternates nearest level and least squares on
    alpha (derived), keeps the best of all rounds, and orders the scales descending. Deterministic.
    """
    width = max(1, _WEIGHTS_AT_ONCE // len(w))
    groups = [w[:, begin : begin + width] for begin in range(0, w.shape[1], width)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        fitted = pool.map(lambda group: _fit_group(np.asarray(group, np.float64), branches, iterations), groups)
        return np.concatenate(list(fitted), 1)


def _fit_group(w: np.ndarray, branches: int, iterations: int) -> np.ndarray:
    start = optimal_ternary(w)
    if branches == 1:
        return start
    columns = SortedColumns(w)
    alpha = np.concatenate([start * 0.9 / 3**j for j in range(branches)])
    best, best_error = alpha, np.full(w.shape[1], np.inf)
    for _ in range(iterations):
        normal, target = columns.normal_equations(alpha)
        error = columns.error(alpha, normal, target)
        better = error < best_error
        best, best_error = np.where(better, alpha, best), np.where(better, error, best_error)
        solved = _solve(normal, target)
        previous, alpha = alpha, np.where(solved[:1] > 0, solved, best)
        if np.array_equal(alpha, previous):
            break  # what follows would be the same again
    return best


def _solve(normal: np.ndarray, target: np.ndarray) -> np.ndarray:
    """alpha [B, M] in descending order that solves the normal equations."""
    ridge = 1e-9 * np.eye(normal.shape[1])
    alpha = np.linalg.solve(normal + ridge, target[..., None])[..., 0].T
    return -np.sort(-np.abs(alpha), 0)


def climb(w: np.ndarray, thresholds: np.ndarray, gamma1: np.ndarray, stairs: np.ndarray) -> np.ndarray:
    """Where each weight stands on staircases of whole numbers: int8 [S, K, M], in float32 as `ternary_branch` computes.

    In groups of rows that stay in a core's cache, on all cores.

    Args:
      w: float32 [K, M].  thresholds: float32 [R, M], in units of gamma1 * w.  gamma1: float32 [M].
      stairs: int8 [S, R + 1, M], the heights of S staircases from the lowest to the highest.
    """
    result = np.empty((len(stairs), *w.shape), np.int8)
    steps = np.diff(stairs, axis=1)
    height = max(1, _NUMBERS_IN_CACHE // w.shape[1])

    def climb_rows(begin: int) -> None:
        scaled, here = gamma1 * w[begin : begin + height], result[:, begin : begin + height]
        here[:] = stairs[:, :1]
        for r, threshold in enumerate(thresholds):
            here += steps[:, r : r + 1] * ((scaled - threshold) > 0)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(climb_rows, range(0, len(w), height)))
    return result


class SortedColumns:
    """The columns of w [K, M], sorted once, so that a fit needs no pass over all weights.

    derived: the weights nearest to one level are neighbours in a sorted column. Their number n_r and sum s_r are all
    that least squares needs of them: with d_r the codes of level r, sum n_r d_r d_r^T alpha = sum s_r d_r.
    """

    def __init__(self, w: np.ndarray):
        self.rows = np.sort(np.ascontiguousarray(w.T), 1)  # [M, K]
        self.sums = np.concatenate([np.zeros((w.shape[1], 1)), np.cumsum(self.rows, 1)], 1)  # of the first k
        self.squares = (self.rows**2).sum(1)

    def regions(self, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(codes [M, R, B], n [M, R], s [M, R]) of the R = 3**B levels in ascending order; a weight in the middle of
        two levels belongs to the lower one.
        """
        levels = float_levels(alpha).T  # [M, R]
        order = np.argsort(levels, 1)
        ordered = np.take_along_axis(levels, order, 1)
        ends = self._count_up_to((ordered[:, 1:] + ordered[:, :-1]) / 2)
        edges = np.pad(ends, ((0, 0), (1, 1)), constant_values=((0, 0), (0, self.rows.shape[1])))
        codes = digit_table(len(alpha)).astype(np.float64)[order]
        return codes, np.diff(edges, axis=1), np.diff(np.take_along_axis(self.sums, edges, 1), axis=1)

    def _count_up_to(self, values: np.ndarray) -> np.ndarray:
        """How many weights of each column are at most each of its values [M, V]: a binary search in all at once."""
        low, high = np.zeros(values.shape, np.int64), np.full(values.shape, self.rows.shape[1])
        for _ in range(self.rows.shape[1].bit_length()):
            middle = (low + high) // 2
            smaller = np.take_along_axis(self.rows, np.minimum(middle, self.rows.shape[1] - 1), 1) <= values
            smaller &= low < high
            low, high = np.where(smaller, middle + 1, low), np.where(smaller | (low == high), high, middle)
        return low

    def normal_equations(self, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(matrix [M, B, B], right side [M, B]) of the least squares for the codes that are nearest with alpha."""
        codes, count, total = self.regions(alpha)
        transposed = codes.transpose(0, 2, 1)
        return (transposed * count[:, None]) @ codes, (transposed @ total[..., None])[..., 0]

    def error(self, alpha: np.ndarray, normal: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Squared error [M] of the nearest levels: |w|^2 - 2 alpha s + alpha N alpha."""
        a = alpha.T[:, None]  # [M, 1, B]
        return self.squares - 2 * (a @ target[..., None])[:, 0, 0] + (a @ normal @ a.transpose(0, 2, 1))[:, 0, 0]
