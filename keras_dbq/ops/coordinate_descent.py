"""Ternary weights that give wanted outputs for given inputs: numpy in float64, all columns of a layer at once.

Notation: inputs X [P, K], wanted outputs Y [P, M]; G = X^T X / P [K, K], b = X^T Y / P [K, M]. A column
w costs w^T G w - 2 b^T w, which is |X w - y|^2 / P less |y|^2 / P. Codes c [B, K, M] in {-1, 0, 1}, branch scales
alpha [B, M], w = sum_j alpha_j * c_j.

derived: for fixed codes the best alpha solves N alpha = r with N_ij = c_i^T G c_j, r_i = c_i^T b; for fixed alpha each
coordinate has the best of 3**B levels, the nearest to w_k - (G w - b)_k / G_kk. Both steps lower the cost, so the cost
never rises.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_dbq.limits import TOP_LEVEL
from keras_dbq.ops.fitting import LARGEST_SECOND, digit_table, fit_branch_scales

# choice: coordinates are visited in groups; the products with all others are brought up to date after each group.
_GROUP = 64


class Solution(NamedTuple):
    """codes: int8 [B, K, M].  scales: float64 [B, M], exactly p * unit with whole p that sum to 127.  cost: [M]."""

    codes: np.ndarray
    scales: np.ndarray
    cost: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """float64 [K, M]."""
        return np.asarray((self.codes * self.scales[:, None]).sum(0))


def solve(gram: np.ndarray, cross: np.ndarray, w: np.ndarray, branches: int, rounds: int = 8) -> Solution:
    """Codes and branch scales that give X w_q near Y.

    Args:
      gram: G, symmetric, positive diagonal.  cross: b.  w: [K, M], where to start (the float weights).
      rounds: of both steps; it ends before when nothing changes.

    Returns:
      The best of all rounds, column by column; never worse than the least-squares fit of `w` itself.
    """
    best = _snapped(gram, cross, *_nearest(w, fit_branch_scales(w, branches)))
    codes, alpha = best.codes, best.scales
    for _ in range(rounds):
        new = descend(gram, cross, codes, alpha)
        solved = _best_scales(gram, cross, new, alpha)
        again = _snapped(gram, cross, *_ordered(new, solved))
        better = again.cost < best.cost
        best = Solution(*(np.where(better, a, b) for a, b in zip(again, best, strict=True)))
        if not better.any():
            break
        codes, alpha = best.codes, best.scales
    return best


def cost(gram: np.ndarray, cross: np.ndarray, w: np.ndarray) -> np.ndarray:
    """w^T G w - 2 b^T w of each column, [M]."""
    return np.asarray((w * (gram @ w - 2 * cross)).sum(0))


def descend(gram: np.ndarray, cross: np.ndarray, codes: np.ndarray, alpha: np.ndarray, sweeps: int = 4) -> np.ndarray:
    """Codes after coordinate descent on the levels of alpha; each visit takes the best level of its coordinate."""
    digits = digit_table(len(alpha)).astype(np.int8)  # [L, B]
    levels = digits @ alpha  # [L, M]
    columns = np.arange(codes.shape[2])
    w, codes = (codes * alpha[:, None]).sum(0), codes.copy()
    slope = gram @ w - cross  # half of the gradient
    for _ in range(sweeps):
        changed = False
        for begin in range(0, len(w), _GROUP):
            rows = slice(begin, begin + _GROUP)
            before, local = w[rows].copy(), slope[rows].copy()
            for i in range(len(before)):
                k = begin + i
                chosen = np.abs(levels - (w[k] - local[i] / gram[k, k])).argmin(0)
                step = levels[chosen, columns] - w[k]
                if step.any():
                    local += np.outer(gram[rows, k], step)
                    w[k] += step
                    codes[:, k] = digits[chosen].T
            moved = w[rows] - before
            if moved.any():
                changed = True
                slope += gram[:, rows] @ moved
        if not changed:
            break
    return codes


def _nearest(w: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(codes of the nearest levels, alpha)."""
    digits = digit_table(len(alpha)).astype(np.int8)
    best, chosen = np.full(w.shape, np.inf), np.zeros(w.shape, np.int64)
    for number, level in enumerate(digits @ alpha):
        distance = np.abs(w - level)
        chosen, best = np.where(distance < best, number, chosen), np.minimum(distance, best)
    return digits[chosen].transpose(2, 0, 1), alpha


def _best_scales(gram: np.ndarray, cross: np.ndarray, codes: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """alpha [B, M] that solves the normal equations; what it was where they have no solution."""
    planes = codes.astype(np.float64)
    products = np.stack([gram @ plane for plane in planes])
    normal = np.einsum("ikm,jkm->mij", planes, products)
    right = np.einsum("ikm,km->mi", planes, cross)
    ridge = 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-300
    solved = np.linalg.solve(normal + ridge * np.eye(len(codes)), right[..., None])[..., 0].T
    return np.where(np.isfinite(solved).all(0) & (np.abs(solved).max(0) > 0), solved, alpha)


def _ordered(codes: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same weights with positive scales in descending order."""
    codes = codes * np.where(alpha < 0, -1, 1).astype(np.int8)[:, None]
    order = np.argsort(-np.abs(alpha), 0, kind="stable")
    return np.take_along_axis(codes, order[:, None], 0), np.take_along_axis(np.abs(alpha), order, 0)


def _snapped(gram: np.ndarray, cross: np.ndarray, codes: np.ndarray, alpha: np.ndarray) -> Solution:
    """The nearest scales of the form p * unit, with the unit that is best for these p and codes."""
    total = np.maximum(alpha.sum(0), np.finfo(np.float64).tiny)
    whole = np.rint(TOP_LEVEL * alpha / total)
    if len(alpha) > 1:
        whole[1:] = np.minimum(whole[1:], LARGEST_SECOND[len(alpha)])
    whole[0] = TOP_LEVEL - whole[1:].sum(0)
    integers = (codes * whole[:, None]).sum(0)
    power, along = (integers * (gram @ integers)).sum(0), (integers * cross).sum(0)
    # A column without any weight, or one that points the wrong way, keeps its scale.
    unit = np.where((power > 0) & (along > 0), along / np.where(power > 0, power, 1), total / TOP_LEVEL)
    scales = whole * unit
    return Solution(codes, scales, cost(gram, cross, integers * unit))
