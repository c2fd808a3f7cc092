"""A basis for a linear space in which the weights around it are nearer to few levels. Numpy in float64.

Notation: x [C] are the channels of the space, x' = A x those in the new basis. A maker y = W^T u [C] with inputs u has
the weights W A^T afterwards, a reader z = V^T x has A^-T V. With codes Q of W A^T and q of A^-T V the errors in the old
basis are Q A^-T - W and A^T q - V: real numbers A of which all layers around the space may make use. The cost is the
sum over the readers of |z_q - z|^2 / |z|^2, once for a reader's own error, once for that of each maker before it:

    sum_readers tr(d^T H d) / t + sum_makers tr(D^T G D N),    d = A^T q - V, D = Q A^-T - W, t = tr(V^T H V)

with G and H the second moments of u and x, N the sum of V V^T / t over the readers behind the maker. derived: it is
lowered in turns: codes by coordinate descent, layer by layer, for fixed A; A by a Gauss-Newton step (1 + X) A, whose
equations sum a X b = g are solved by conjugate gradients, for fixed codes. choice: many turns with quick codes (one
round of descent, one step) get further in the same time than few with better ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from keras_dbq.ops import coordinate_descent
from keras_dbq.ops.weight_levels import WeightLevels

_RIDGE = 1e-4  # choice: share of the mean power added to every input's, as in the solver's first layers
_TURNS = 40  # choice: of conjugate gradients in a Gauss-Newton step
_SMALLEST = 1e-3  # choice: of the lengths of a step that are tried
# choice: how far the largest stretch of A may be from the smallest. The space's activations have one grid for all
# channels, and A^-1 makes the rounding of some of them larger.
_CONDITION = 30.0


class Maker(NamedTuple):
    """gram: G [K, K].  weights: W [K, C].  exact: no levels.  readers: numbers of those behind it."""

    gram: np.ndarray
    weights: np.ndarray
    exact: bool
    readers: list[int]


class Reader(NamedTuple):
    """gram: H [C, C].  weights: V [C, M].  exact: no levels."""

    gram: np.ndarray
    weights: np.ndarray
    exact: bool


class Basis(NamedTuple):
    """matrix: A [C, C].  before, after: the cost with A = 1 and with A."""

    matrix: np.ndarray
    before: float
    after: float


def find(makers: list[Maker], readers: list[Reader], levels: WeightLevels, rounds: int) -> Basis:
    """The best basis of `rounds` rounds; the one that is there where none is better.

    Readers whose output never changes do not count.
    """
    problem = _Problem(makers, readers, levels)
    basis = np.eye(len(readers[0].gram))
    best = Basis(basis, np.inf, np.inf)
    for number in range(rounds + 1):
        codes = problem.codes(basis)
        cost = codes.cost(basis)
        best = Basis(basis, cost if number == 0 else best.before, cost) if cost < best.after else best
        moved = codes.better(basis) if number < rounds else basis
        if moved is basis:
            break
        basis = moved
    return best


class _Problem:
    """The layers around a space, in units of the readers' outputs."""

    def __init__(self, makers: list[Maker], readers: list[Reader], levels: WeightLevels):
        self.levels = levels
        power = [float((r.weights * (r.gram @ r.weights)).sum()) for r in readers]
        heard = [r.weights @ r.weights.T / t if t > 0 else 0 * r.gram for r, t in zip(readers, power, strict=True)]
        self.readers = [(r, t) for r, t in zip(readers, power, strict=True) if t > 0 and not r.exact]
        self.makers = [(m, sum((heard[i] for i in m.readers), 0 * heard[0])) for m in makers if not m.exact]

    def codes(self, basis: np.ndarray) -> _Codes:
        """What descent leads to in this basis."""
        back = np.linalg.inv(basis).T
        read = [self._quantized(basis @ r.gram @ basis.T, back @ r.weights) for r, _ in self.readers]
        made = [self._quantized(m.gram, m.weights @ basis.T) for m, _ in self.makers]
        return _Codes(self, read, made)

    def _quantized(self, gram: np.ndarray, w: np.ndarray) -> np.ndarray:
        gram = gram + (_RIDGE * np.trace(gram) / len(gram) + 1e-300) * np.eye(len(gram))
        return coordinate_descent.fitted(gram, gram @ w, w, self.levels, 1).weights


class _Codes(NamedTuple):
    """Weights of few levels, in the basis that they were found in. read: q of each reader.  made: Q of each maker."""

    problem: _Problem
    read: list[np.ndarray]
    made: list[np.ndarray]

    def cost(self, basis: np.ndarray) -> float:
        """Of these weights, taken for those in that basis."""
        back, total = np.linalg.inv(basis).T, 0.0
        for (reader, power), q in zip(self.problem.readers, self.read, strict=True):
            error = basis.T @ q - reader.weights
            total += float((error * (reader.gram @ error)).sum()) / power
        for (maker, heard), q in zip(self.problem.makers, self.made, strict=True):
            error = q @ back - maker.weights
            total += float(((maker.gram @ error) * (error @ heard)).sum())
        return total

    def better(self, basis: np.ndarray) -> np.ndarray:
        """A basis that suits these weights better; the same one where a step finds none."""
        cost, step, length = self.cost(basis), self._step(basis), 1.0
        while length > _SMALLEST:
            new = basis + length * step @ basis
            if np.linalg.cond(new) <= _CONDITION and self.cost(new) < cost:
                return new
            length /= 2
        return basis

    def _step(self, basis: np.ndarray) -> np.ndarray:
        """X of the Gauss-Newton step (1 + X) A, for which A^-1 is A^-1 (1 - X)."""
        back, wanted = np.linalg.inv(basis).T, np.zeros_like(basis)
        terms = []
        for (reader, power), q in zip(self.problem.readers, self.read, strict=True):
            seen = reader.gram @ basis.T / power
            wanted -= q @ (basis.T @ q - reader.weights).T @ seen
            terms.append((q @ q.T, basis @ seen))
        for (maker, heard), q in zip(self.problem.makers, self.made, strict=True):
            outputs = back @ heard
            wanted += outputs @ (q @ back - maker.weights).T @ (maker.gram @ q)
            terms.append((outputs @ back.T, q.T @ maker.gram @ q))
        least = 1e-6 * sum(np.trace(a) * np.trace(b) for a, b in terms) / basis.size
        return _conjugate_gradients(lambda x: sum((a @ x @ b for a, b in terms), least * x), wanted)


def _conjugate_gradients(apply: Callable[[np.ndarray], np.ndarray], wanted: np.ndarray) -> np.ndarray:
    """X with apply(X) near `wanted`; `apply` is linear, symmetric and positive."""
    x, rest = np.zeros_like(wanted), wanted
    direction, left = rest, float((rest**2).sum())
    enough = 1e-10 * left
    for _ in range(_TURNS):
        if left <= enough:
            break
        along = apply(direction)
        length = left / float((direction * along).sum())
        x, rest = x + length * direction, rest - length * along
        before, left = left, float((rest**2).sum())
        direction = rest + left / before * direction
    return x
