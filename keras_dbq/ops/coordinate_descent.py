"""Weights of few levels that give wanted outputs for given inputs: numpy in float64, all columns of a layer at once.

Notation: inputs X [P, K], wanted outputs Y [P, M]; G = X^T X / P [K, K], b = X^T Y / P [K, M]. A column
w costs w^T G w - 2 b^T w, which is |X w - y|^2 / P less |y|^2 / P. Codes c [B, K, M] and scales alpha [B, M] as in
`weight_levels`, w = sum_j alpha_j * c_j.

Three ways to codes, of which each column keeps the best. Descent (derived): for fixed codes the best alpha solves
N alpha = r with N_ij = c_i^T G c_j, r_i = c_i^T b; for fixed alpha each coordinate has the level nearest to
w_k - (G w - b)_k / G_kk. Both steps lower the cost, so the cost never rises. Rounding with compensation: the weights of
least cost, without levels, are rounded one after the other, and those that are left make up for each error before they
are rounded themselves (source: GPTQ, Frantar et al., ICLR 2023; it is Babai's nearest plane algorithm); several times,
with other scales. Then from places near the best (iterated local search): every second time scales that differ a
little, or a few codes changed at random. choice, measured; each way is followed by descent.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_dbq.ops.weight_levels import WeightLevels

# choice: coordinates are visited in groups; the products with all others are brought up to date after each group.
_GROUP = 64
_ROUNDS = 8  # choice: of descent and new scales; it ends before where nothing changes
# choice: scales with which the weights are rounded first, in units of those that fit the float weights; smaller ones
# suit weights that make up for each other's errors.
_FACTORS = 0.8, 1.0, 0.7, 0.9, 0.6, 1.1
_SPREAD = 0.1  # choice: how far a try's scales are from the best ones, the deviation of their logarithm
_CHANGED = 0.05  # choice: share of the codes that a try changes
# choice: tries while so many operations are enough for all of them, within these limits; one of numpy's calls counts
# for some, too.
_OPERATIONS, _CALL, _FEWEST, _MOST = 4e9, 50_000, 2, 20


class Solution(NamedTuple):
    """codes: int8 [B, K, M].  scales: float64 [B, M], as a file can hold them.  cost: [M]."""

    codes: np.ndarray
    scales: np.ndarray
    cost: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """float64 [K, M]."""
        return np.asarray((self.codes * self.scales[:, None]).sum(0))


def tries(inputs: int, columns: int, problems: int = 1) -> int:
    """How many tries of so many problems of K inputs and M columns are worth their time."""
    return int(np.clip(_OPERATIONS // (problems * inputs * (inputs * columns + _CALL)), _FEWEST, _MOST))


def fitted(gram: np.ndarray, cross: np.ndarray, w: np.ndarray, levels: WeightLevels, rounds: int = _ROUNDS) -> Solution:
    """The levels nearest to w, with so many rounds of descent; never worse than the least-squares fit of w."""
    scales = levels.fit(w)
    return descended(gram, cross, rounded(w, scales, levels), scales, levels, rounds)


def solve(
    gram: np.ndarray,
    cross: np.ndarray,
    w: np.ndarray,
    levels: WeightLevels,
    tries: int = _FEWEST,
    rounds: int = _ROUNDS,
) -> Solution:
    """Codes and scales that give X w_q near Y.

    Args:
      gram: G, symmetric, positive diagonal.  cross: b.  w: [K, M], the float weights.
      tries: from another place, behind descent from the levels nearest to `w`.  rounds: of each descent, at most.

    Returns:
      The best of all ways, column by column; never worse than the least-squares fit of `w` itself.
    """
    problem, rng, scales = _Problem(gram, cross, levels, rounds), np.random.default_rng(0), levels.fit(w)
    best = fitted(gram, cross, w, levels, rounds)
    for number in range(tries):
        if number < len(_FACTORS):
            best = _best(best, problem.compensated(_FACTORS[number] * scales))
        elif number % 2:
            best = _best(best, problem.descended(_changed(best.codes, rng), best.scales))
        else:
            other = np.exp(_SPREAD * rng.standard_normal(scales.shape))
            best = _best(best, problem.compensated(other * best.scales))
    return best


def cost(gram: np.ndarray, cross: np.ndarray, w: np.ndarray) -> np.ndarray:
    """w^T G w - 2 b^T w of each column, [M]."""
    return np.asarray((w * (gram @ w - 2 * cross)).sum(0))


def rounded(w: np.ndarray, scales: np.ndarray, levels: WeightLevels) -> np.ndarray:
    """Codes of the levels nearest to w [K, M]."""
    pick = levels.picker(scales)
    return np.stack([pick(row)[0] for row in w], 1)


def descend(
    gram: np.ndarray, cross: np.ndarray, codes: np.ndarray, alpha: np.ndarray, levels: WeightLevels, sweeps: int = 4
) -> np.ndarray:
    """Codes after coordinate descent on the levels of alpha; each visit takes the best level of its coordinate."""
    pick = levels.picker(alpha)
    w, codes = (codes * alpha[:, None]).sum(0), codes.copy()
    slope = gram @ w - cross  # half of the gradient
    for _ in range(sweeps):
        changed = False
        for begin in range(0, len(w), _GROUP):
            rows = slice(begin, begin + _GROUP)
            before, local = w[rows].copy(), slope[rows].copy()
            for k, at in enumerate(local, begin):  # `at` is a view: it follows what the coordinates before it add
                codes[:, k], chosen = pick(w[k] - at / gram[k, k])
                step = chosen - w[k]
                if step.any():
                    local += np.outer(gram[rows, k], step)
                    w[k] = chosen
            moved = w[rows] - before
            if moved.any():
                changed = True
                slope += gram[:, rows] @ moved
        if not changed:
            break
    return codes


def descended(
    gram: np.ndarray, cross: np.ndarray, codes: np.ndarray, alpha: np.ndarray, levels: WeightLevels, rounds: int
) -> Solution:
    """The best of these codes and of those that descent leads to from them, column by column."""
    best = _snapped(gram, cross, codes, alpha, levels)
    for _ in range(rounds):
        new = descend(gram, cross, best.codes, best.scales, levels)
        again = rescaled(gram, cross, best._replace(codes=new), levels)
        better = again.cost < best.cost
        best = _best(best, again)
        if not better.any():
            break
    return best


class _Problem:
    """G and b of one layer, or of one group of it, and the levels of its weights."""

    def __init__(self, gram: np.ndarray, cross: np.ndarray, levels: WeightLevels, rounds: int = _ROUNDS):
        self.gram, self.cross, self.levels, self._rounds = gram, cross, levels, rounds
        self._order = np.argsort(np.diag(gram), kind="stable")
        ordered = gram[np.ix_(self._order, self._order)]
        ordered = ordered + (1e-9 * np.trace(gram) / len(gram) + 1e-300) * np.eye(len(gram))
        self._root = np.linalg.cholesky(ordered).T
        self._free = np.linalg.solve(ordered, cross[self._order])

    def compensate(self, alpha: np.ndarray) -> np.ndarray:
        """Codes of the weights of least cost, rounded one after the other; those left make up for what is lost.

        derived: with G = R^T R, R upper triangular, the cost is |R (w - w0)|^2 and a constant, w0 the weights of least
        cost. From the last coordinate on each one's term is least at w0_k - sum_{j > k} R_kj (w - w0)_j / R_kk. The
        inputs of most power are rounded first (choice, as GPTQ's authors advise), so they come last.
        """
        pick, size = self.levels.picker(alpha), len(self._free)
        error = np.zeros_like(self._free)
        codes = np.empty((len(alpha), *self._free.shape), np.int8)
        for end in range(size, 0, -_GROUP):
            begin = max(end - _GROUP, 0)
            later = self._root[begin:end, end:] @ error[end:]
            for k in range(end - 1, begin - 1, -1):
                shift = later[k - begin] + self._root[k, k + 1 : end] @ error[k + 1 : end]
                codes[:, self._order[k]], chosen = pick(self._free[k] - shift / self._root[k, k])
                error[k] = chosen - self._free[k]
        return codes

    def compensated(self, alpha: np.ndarray) -> Solution:
        """From codes with compensation on, descended."""
        codes = self.compensate(alpha)
        return self.descended(codes, _best_scales(self.gram, self.cross, codes, alpha))

    def descended(self, codes: np.ndarray, alpha: np.ndarray) -> Solution:
        return descended(self.gram, self.cross, codes, alpha, self.levels, self._rounds)


def rescaled(gram: np.ndarray, cross: np.ndarray, solution: Solution, levels: WeightLevels) -> Solution:
    """The same codes with the scales that are best for this G and b."""
    return _snapped(gram, cross, solution.codes, _best_scales(gram, cross, solution.codes, solution.scales), levels)


def _snapped(
    gram: np.ndarray, cross: np.ndarray, codes: np.ndarray, alpha: np.ndarray, levels: WeightLevels
) -> Solution:
    """The nearest scales of a form that a file can hold, with the unit that is best for these codes."""
    codes, parts, unit = levels.form(codes, alpha)
    integers = (codes * parts[:, None]).sum(0)
    power, along = (integers * (gram @ integers)).sum(0), (integers * cross).sum(0)
    # A column without any weight, or one that points the wrong way, keeps its unit.
    unit = np.where((power > 0) & (along > 0), along / np.where(power > 0, power, 1), unit)
    found = cost(gram, cross, integers * unit)
    return Solution(codes, parts * unit, np.where(levels.allowed(codes), found, np.inf))


def _best(left: Solution, right: Solution) -> Solution:
    """The better one, column by column; the left one where both cost the same."""
    better = right.cost < left.cost
    return Solution(*(np.where(better, new, old) for new, old in zip(right, left, strict=True)))


def _changed(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Codes of which some are those of another weight of the same column."""
    other = rng.permutation(codes.shape[1])
    return np.where(rng.random(codes.shape[1:]) < _CHANGED, codes[:, other], codes)


def _best_scales(gram: np.ndarray, cross: np.ndarray, codes: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """alpha [B, M] that solves the normal equations; what it was where they have no solution."""
    planes = codes.astype(np.float64)
    products = np.stack([gram @ plane for plane in planes])
    normal = np.einsum("ikm,jkm->mij", planes, products)
    right = np.einsum("ikm,km->mi", planes, cross)
    ridge = 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-300
    solved = np.linalg.solve(normal + ridge * np.eye(len(codes)), right[..., None])[..., 0].T
    return np.where(np.isfinite(solved).all(0) & (np.abs(solved).max(0) > 0), solved, alpha)
