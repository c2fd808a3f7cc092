"""Codes and scales that give wanted outputs: against brute force, and the cost never rises."""

import itertools

import numpy as np
import pytest

from keras_dbq.ops import coordinate_descent as cd
from keras_dbq.ops.fitting import digit_table
from keras_dbq.ops.weight_levels import LinearLevels, TernaryLevels

RNG = np.random.default_rng(0)
LEVELS = [TernaryLevels(1), TernaryLevels(2), TernaryLevels(3), LinearLevels(1), LinearLevels(3), LinearLevels(7)]


def problem(k, m, positions=200):
    x = RNG.normal(size=(positions, k)) @ RNG.normal(size=(k, k))  # inputs that depend on each other
    w = RNG.normal(size=(k, m))
    return x.T @ x / positions, x.T @ (x @ w) / positions, w


def fit_of(w, levels):
    """The levels nearest to the weights themselves."""
    scales = levels.fit(w)
    return cd.rounded(w, scales, levels), scales


@pytest.mark.parametrize("levels", LEVELS, ids=str)
@pytest.mark.parametrize("k", [1, 7, 64, 150])
def test_the_solution_has_a_form_that_files_hold_and_is_better_than_the_fit(levels, k):
    gram, cross, w = problem(k, 5)
    solution = cd.solve(gram, cross, w, levels)
    codes, parts, unit = levels.form(solution.codes, solution.scales)
    assert np.array_equal(codes, solution.codes) and levels.allowed(codes).all()
    np.testing.assert_allclose(parts * unit, solution.scales, rtol=1e-9)
    assert (solution.scales[0] > 0).all()
    np.testing.assert_allclose(cd.cost(gram, cross, solution.weights), solution.cost, rtol=1e-9)
    start = cd.cost(gram, cross, (lambda c, s: (c * s[:, None]).sum(0))(*fit_of(w, levels)))
    # Ternary scales of the fit are not yet snapped to whole numbers of 127 steps.
    assert (solution.cost <= start + 1e-3 * np.abs(start)).all()
    assert k < 64 or (solution.cost < start).all()


@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_the_cost_never_rises(levels):
    gram, cross, w = problem(40, 6)
    codes, alpha = fit_of(w, levels)
    costs = [cd.cost(gram, cross, (codes * alpha[:, None]).sum(0))]
    for _ in range(5):
        codes = cd.descend(gram, cross, codes, alpha, levels, sweeps=1)
        costs.append(cd.cost(gram, cross, (codes * alpha[:, None]).sum(0)))
        alpha = cd._best_scales(gram, cross, codes, alpha)
        costs.append(cd.cost(gram, cross, (codes * alpha[:, None]).sum(0)))
    assert (np.diff(costs, axis=0) <= 1e-9 * np.abs(costs[0])).all() and (costs[-1] < costs[0]).all()


@pytest.mark.parametrize("branches", [1, 2])
def test_a_coordinate_optimum_is_reached(branches):
    """No single code, changed to any level, is better."""
    gram, cross, w = problem(8, 4)
    codes, alpha = fit_of(w, TernaryLevels(branches))
    codes = cd.descend(gram, cross, codes, alpha, TernaryLevels(branches), sweeps=100)
    found = cd.cost(gram, cross, (codes * alpha[:, None]).sum(0))
    for row, digits in itertools.product(range(8), digit_table(branches).astype(np.int8)):
        other = codes.copy()
        other[:, row] = digits[:, None]
        assert (cd.cost(gram, cross, (other * alpha[:, None]).sum(0)) >= found - 1e-9).all()


@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_rounding_with_compensation_is_that_of_one_coordinate_after_the_other(levels):
    """Against the definition: the free coordinates are solved anew for each that has been rounded."""
    gram, cross, w = problem(70, 3)
    scales, k = levels.fit(w), len(w)
    pick, order = levels.picker(scales), np.argsort(-np.diag(gram))
    fixed, free = np.zeros_like(w), list(order)
    for row in order:
        wanted = np.linalg.solve(gram[np.ix_(free, free)], cross[free] - gram[free] @ fixed)
        fixed[row] = pick(wanted[0])[1]
        free = free[1:]
    codes = cd._Problem(gram, cross, levels).compensate(scales)
    np.testing.assert_allclose((codes * scales[:, None]).sum(0), fixed, atol=1e-9)
    rounded_cost = cd.cost(gram, cross, (cd.rounded(w, scales, levels) * scales[:, None]).sum(0)).sum()
    assert cd.cost(gram, cross, fixed).sum() < rounded_cost and codes.shape[1] == k


@pytest.mark.parametrize("levels", LEVELS[:2] + LEVELS[-1:], ids=str)
def test_tries_win_and_never_lose(levels):
    gram, cross, w = problem(40, 8)
    costs = [cd.solve(gram, cross, w, levels, tries).cost for tries in (0, 4, 40)]
    assert (np.diff(costs, axis=0) <= 0).all() and costs[-1].sum() < costs[0].sum()
    assert cd.tries(16, 16) > cd.tries(960, 320) >= 2 and cd.tries(9, 1) > cd.tries(9, 1, 960)


def test_the_scale_is_the_best_for_the_codes_and_brute_force_is_hardly_better():
    gram, cross, w = problem(6, 3)
    solution = cd.solve(gram, cross, w, TernaryLevels(1))
    every = np.array(list(itertools.product((-1, 0, 1), repeat=6)), float).T  # [6, 729]
    along, power = cross.T @ every, (every * (gram @ every)).sum(0)
    best = -(np.maximum(along, 0) ** 2 / np.where(power > 0, power, np.inf)).max(1)
    own = solution.codes[0].astype(float)
    scale = (own * cross).sum(0) / (own * (gram @ own)).sum(0)
    np.testing.assert_allclose(solution.scales[0], scale, rtol=1e-9)
    assert (solution.cost >= best - 1e-9).all() and (solution.cost <= 0.999 * best).all()  # costs are negative


@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_a_column_of_zeros_and_one_without_inputs_stay_finite(levels):
    gram, cross, w = problem(5, 3)
    w[:, 0], cross[:, 0] = 0, 0
    solution = cd.solve(gram, cross, w, levels)
    assert np.isfinite(solution.scales).all() and np.isfinite(solution.cost).all() and (solution.scales[0] > 0).all()
    dead = cd.solve(1e-12 * np.eye(5), np.zeros((5, 3)), w, levels)
    assert np.isfinite(dead.scales).all()
