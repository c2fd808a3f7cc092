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
        errors.append(fitting.nearest_codes(w, alpha)[1].sum())
    assert errors[0] > 3 * errors[1] > 3 * errors[2]


def test_zero_column_gets_finite_scales():
    w = np.zeros((9, 2))
    w[:, 1] = 1.0
    for branches in BRANCHES:
        assert np.isfinite(fitting.fit_branch_scales(w, branches)).all()


@pytest.mark.parametrize("branches", BRANCHES)
def test_nearest_codes_are_nearest(branches):
    """Against the distance to every level."""
    w = np.random.default_rng(17).normal(size=(50, 3))
    alpha = fitting.fit_branch_scales(w, branches)
    codes, error = fitting.nearest_codes(w, alpha)
    levels = fitting.float_levels(alpha)  # [3**B, M]
    distance = np.abs(w[None] - levels[:, None]).min(0)
    np.testing.assert_allclose(np.abs(w - (codes * alpha).sum(1)), distance, rtol=0, atol=1e-12)
    np.testing.assert_allclose(error, (distance**2).sum(0), rtol=1e-12)
    assert set(np.unique(codes)) <= {-1, 0, 1}


def test_no_iteration_makes_the_fit_worse():
    w = np.random.default_rng(18).normal(size=(60, 5))
    errors = [fitting.nearest_codes(w, fitting.fit_branch_scales(w, 2, n))[1] for n in (1, 2, 5, 30)]
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
