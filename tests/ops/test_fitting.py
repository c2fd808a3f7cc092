"""Branch scales fitted to float weights."""

import subprocess
import sys

import numpy as np
import pytest

import keras_dbq
from keras_dbq.ops import fitting

BRANCHES = (1, 2, 3)


def test_optimal_ternary_beats_every_other_count():
    w = np.random.default_rng(15).normal(size=(30, 4))
    alpha = fitting.optimal_ternary(w)[0]
    for m in range(4):
        column = np.abs(w[:, m])

        def error(a, t, column=column):
            return ((column - a * (column > t)) ** 2).sum()

        best = error(alpha[m], alpha[m] / 2)
        for r in range(1, 31):
            top = -np.sort(-column)[:r]
            candidate = ((column**2).sum()) - top.sum() ** 2 / r
            assert best <= candidate + 1e-9


def test_fit_is_deterministic_descending_and_better_with_more_branches():
    w = np.random.default_rng(16).normal(size=(144, 8))
    errors = []
    for branches in BRANCHES:
        alpha = fitting.fit_branch_scales(w, branches)
        np.testing.assert_array_equal(alpha, fitting.fit_branch_scales(w, branches))
        assert np.all(np.diff(alpha, axis=0) <= 0) and np.all(alpha >= 0)
        errors.append(nearest(w, alpha)[1].sum())
    assert errors[0] > 3 * errors[1] > 3 * errors[2]


def test_zero_column_gets_finite_scales():
    w = np.zeros((9, 2))
    w[:, 1] = 1.0
    for branches in BRANCHES:
        assert np.isfinite(fitting.fit_branch_scales(w, branches)).all()


@pytest.mark.parametrize("branches", BRANCHES)
@pytest.mark.parametrize("rows", [1, 2, 7, 64, 65])
def test_regions_are_those_of_the_nearest_levels(branches, rows):
    """Against the distance to every level; equal weights and weights that are zero among them."""
    w = np.random.default_rng(17).normal(size=(rows, 3)).round(1)
    w[: rows // 3, 1] = 0.0
    alpha = fitting.fit_branch_scales(w, branches) + 1e-3 * np.arange(branches, 0, -1)[:, None]
    columns = fitting.SortedColumns(w)
    codes, count, total = columns.regions(alpha)
    levels = np.einsum("mrb,bm->mr", codes, alpha)
    assert np.all(np.diff(levels, axis=1) >= 0) and np.all(count.sum(1) == rows)
    np.testing.assert_allclose(total.sum(1), w.sum(0), atol=1e-12)
    for m in range(3):
        chosen = np.repeat(levels[m], count[m])  # of the sorted column
        distance = np.abs(np.sort(w[:, m])[:, None] - levels[m]).min(1)
        np.testing.assert_allclose(np.abs(np.sort(w[:, m]) - chosen), distance, atol=1e-12)
    normal, target = columns.normal_equations(alpha)
    np.testing.assert_allclose(columns.error(alpha, normal, target), nearest(w, alpha)[1], atol=1e-10)


def nearest(w, alpha):
    """(distance [K, M] to the nearest level, squared error [M]), of all levels."""
    distance = np.abs(w[None] - fitting.float_levels(alpha)[:, None]).min(0)
    return distance, (distance**2).sum(0)


def test_a_weight_in_the_middle_belongs_to_the_lower_level():
    columns = fitting.SortedColumns(np.array([[-0.5], [0.5], [0.5], [1.0]]))
    _, count, total = columns.regions(np.array([[1.0]]))  # levels -1, 0, 1
    assert count.tolist() == [[1, 2, 1]] and total.tolist() == [[-0.5, 1.0, 1.0]]


def test_the_normal_equations_are_those_of_the_codes():
    w = np.random.default_rng(3).normal(size=(40, 5))
    alpha = fitting.fit_branch_scales(w, 2, iterations=3)
    levels = fitting.float_levels(alpha)
    codes = fitting.digit_table(2).astype(np.float64)[np.abs(w[None] - levels[:, None]).argmin(0)]  # [K, M, B]
    normal, target = fitting.SortedColumns(w).normal_equations(alpha)
    np.testing.assert_allclose(normal, np.einsum("kmb,kmc->mbc", codes, codes), atol=1e-12)
    np.testing.assert_allclose(target, np.einsum("kmb,km->mb", codes, w), atol=1e-12)


def test_no_iteration_makes_the_fit_worse():
    w = np.random.default_rng(18).normal(size=(60, 5))
    errors = [nearest(w, fitting.fit_branch_scales(w, 2, n))[1] for n in (1, 2, 5, 30)]
    for before, after in zip(errors[:-1], errors[1:], strict=True):
        assert (after <= before).all()
    assert errors[-1].sum() < errors[0].sum()


def test_fitting_needs_no_tensorflow():
    code = "import sys, keras_dbq.ops.fitting; assert not {'tensorflow', 'tf_keras'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_public_module_has_the_functions():
    assert keras_dbq.branch_ops.fit_branch_scales is fitting.fit_branch_scales
    assert keras_dbq.branch_ops.optimal_ternary is fitting.optimal_ternary
    assert keras_dbq.branch_ops.float_levels is fitting.float_levels
