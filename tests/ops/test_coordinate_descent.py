"""Codes and scales that give wanted outputs: against brute force, and the cost never rises."""

import itertools

import numpy as np
import pytest

from keras_dbq.ops import coordinate_descent as cd
from keras_dbq.ops.fitting import digit_table

RNG = np.random.default_rng(0)


def problem(k, m, positions=200):
    x = RNG.normal(size=(positions, k)) @ RNG.normal(size=(k, k))  # inputs that depend on each other
    w = RNG.normal(size=(k, m))
    return x.T @ x / positions, x.T @ (x @ w) / positions, w


@pytest.mark.parametrize("branches", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 7, 64, 150])
def test_the_solution_is_made_of_codes_and_whole_scales_and_better_than_the_fit(branches, k):
    gram, cross, w = problem(k, 5)
    solution = cd.solve(gram, cross, w, branches)
    assert solution.codes.shape == (branches, k, 5) and set(np.unique(solution.codes)) <= {-1, 0, 1}
    whole = 127 * solution.scales / solution.scales.sum(0)
    np.testing.assert_allclose(whole, np.rint(whole), atol=1e-9)
    assert (np.diff(solution.scales, axis=0) <= 0).all() and (solution.scales[0] > 0).all()
    np.testing.assert_allclose(cd.cost(gram, cross, solution.weights), solution.cost, rtol=1e-9)
    start = cd._snapped(gram, cross, *cd._nearest(w, cd.fit_branch_scales(w, branches)))
    assert (solution.cost <= start.cost).all()
    assert k < 64 or (solution.cost < start.cost).all()


def test_the_cost_never_rises():
    gram, cross, w = problem(40, 6)
    codes, alpha = cd._nearest(w, cd.fit_branch_scales(w, 2))
    costs = [cd.cost(gram, cross, (codes * alpha[:, None]).sum(0))]
    for _ in range(5):
        codes = cd.descend(gram, cross, codes, alpha, sweeps=1)
        costs.append(cd.cost(gram, cross, (codes * alpha[:, None]).sum(0)))
        alpha = cd._best_scales(gram, cross, codes, alpha)
        costs.append(cd.cost(gram, cross, (codes * alpha[:, None]).sum(0)))
    assert (np.diff(costs, axis=0) <= 1e-9 * np.abs(costs[0])).all() and (costs[-1] < costs[0]).all()


@pytest.mark.parametrize("branches", [1, 2])
def test_a_coordinate_optimum_is_reached(branches):
    """No single code, changed to any level, is better."""
    gram, cross, w = problem(8, 4)
    codes, alpha = cd._nearest(w, cd.fit_branch_scales(w, branches))
    codes = cd.descend(gram, cross, codes, alpha, sweeps=100)
    found = cd.cost(gram, cross, (codes * alpha[:, None]).sum(0))
    for row, digits in itertools.product(range(8), digit_table(branches).astype(np.int8)):
        other = codes.copy()
        other[:, row] = digits[:, None]
        assert (cd.cost(gram, cross, (other * alpha[:, None]).sum(0)) >= found - 1e-9).all()


def test_the_scale_is_the_best_for_the_codes_and_brute_force_is_hardly_better():
    gram, cross, w = problem(6, 3)
    solution = cd.solve(gram, cross, w, 1)
    every = np.array(list(itertools.product((-1, 0, 1), repeat=6)), float).T  # [6, 729]
    along, power = cross.T @ every, (every * (gram @ every)).sum(0)
    best = -(np.maximum(along, 0) ** 2 / np.where(power > 0, power, np.inf)).max(1)
    own = solution.codes[0].astype(float)
    scale = (own * cross).sum(0) / (own * (gram @ own)).sum(0)
    np.testing.assert_allclose(solution.scales[0], scale, rtol=1e-9)
    assert (solution.cost >= best - 1e-9).all() and (solution.cost <= 0.7 * best).all()  # costs are negative


def test_a_column_of_zeros_and_one_without_inputs_stay_finite():
    gram, cross, w = problem(5, 3)
    w[:, 0], cross[:, 0] = 0, 0
    solution = cd.solve(gram, cross, w, 2)
    assert np.isfinite(solution.scales).all() and (solution.scales[0] > 0).all()
    dead = cd.solve(1e-12 * np.eye(5), np.zeros((5, 3)), w, 1)
    assert np.isfinite(dead.scales).all()
