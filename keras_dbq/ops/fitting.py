"""Branch scales fitted to float weights: numpy in float64, without TensorFlow and without gradients.

Notation as in `branches`: weights as columns w [K, M], branch scales alpha [B, M].
"""

import functools
import itertools

import numpy as np


@functools.cache
def digit_table(branches: int) -> np.ndarray:
    """All codes as float32 [3**B, B]; branch 1 varies slowest, so the order is ascending when p_j >= 2 * p_{j+1}."""
    return np.array(list(itertools.product((-1, 0, 1), repeat=branches)), np.float32)


def optimal_ternary(w: np.ndarray) -> np.ndarray:
    """Branch scale alpha [1, M] of the least-squares ternary of each column of w [K, M].

    derived: with |w| sorted descending, r* = argmax_r (sum of top r)**2 / r, alpha = mean of the top r*; the threshold
    alpha / 2 selects exactly these r*. A column of zeros gets alpha = 1 (all codes are 0 whatever the scale).
    """
    magnitude = -np.sort(-np.abs(np.asarray(w, np.float64)), 0)
    total = np.cumsum(magnitude, 0)
    best = np.argmax(total**2 / np.arange(1, len(w) + 1)[:, None], 0)
    alpha = total[best, np.arange(w.shape[1])] / (best + 1)
    return np.where(alpha > 0, alpha, 1.0)[None]


def float_levels(alpha: np.ndarray) -> np.ndarray:
    """The levels of branch scales alpha [B, M] before they are snapped to integers: float64 [3**B, M], not sorted."""
    return digit_table(len(alpha)).astype(np.float64) @ alpha


def fit_branch_scales(w: np.ndarray, branches: int, iterations: int = 30) -> np.ndarray:
    """Branch scales float64 [B, M] that fit the columns of w [K, M] best.

    B = 1: the optimum. More branches: from (0.9, 0.3, ...) times that, alternates nearest level and least squares on
    alpha (derived), keeps the best of all rounds, and orders the scales descending. Deterministic.
    """
    w = np.asarray(w, np.float64)
    start = optimal_ternary(w)
    if branches == 1:
        return start
    alpha = np.concatenate([start * 0.9 / 3**j for j in range(branches)])
    best, best_error = alpha, np.full(w.shape[1], np.inf)
    for _ in range(iterations):
        codes, error = nearest_codes(w, alpha)
        better = error < best_error
        best, best_error = np.where(better, alpha, best), np.where(better, error, best_error)
        alpha = _least_squares(w, codes)
        alpha = np.where(alpha[:1] > 0, alpha, best)
    return best


def _least_squares(w: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """alpha [B, M] in descending order that is best for w [K, M] with these codes [K, B, M]."""
    ridge = 1e-9 * np.eye(codes.shape[1])
    normal = np.einsum("kbm,kcm->mbc", codes, codes) + ridge
    target = np.einsum("kbm,km->mb", codes, w)
    alpha = np.linalg.solve(normal, target[..., None])[..., 0].T
    return -np.sort(-np.abs(alpha), 0)


def nearest_codes(w: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes [K, B, M] of the level nearest to each weight of w [K, M] (the lower one at a tie), and the squared
    error [M]; float64.
    """
    levels = float_levels(alpha)
    order = np.argsort(levels, 0)
    ordered = np.take_along_axis(levels, order, 0)
    middle = (ordered[1:] + ordered[:-1]) / 2
    region = (w[None] > middle[:, None]).sum(0)  # [K, M]
    chosen = np.take_along_axis(order, region, 0)
    codes = digit_table(len(alpha)).astype(np.float64)[chosen].transpose(0, 2, 1)
    error = ((w - np.einsum("kbm,bm->km", codes, alpha)) ** 2).sum(0)
    return codes, error
