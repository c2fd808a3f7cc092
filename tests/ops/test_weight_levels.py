"""Levels of a column: the nearest ones are found, and what a file can hold of their scales."""

import numpy as np
import pytest

from keras_dbq.ops.weight_levels import LinearLevels, TernaryLevels

RNG = np.random.default_rng(0)
LEVELS = [TernaryLevels(1), TernaryLevels(2), TernaryLevels(3), LinearLevels(1), LinearLevels(7)]


def every_level(levels, scales):
    """All weights that a column may have, [L, M], found by asking for many."""
    pick = levels.picker(scales)
    wanted = np.linspace(-1.5, 1.5, 4001)[:, None] * np.abs(scales).sum(0) * getattr(levels, "top", 1)
    return np.unique(np.stack([pick(row)[1] for row in wanted]), axis=0)


@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_the_nearest_level_is_picked(levels):
    w = RNG.normal(size=(30, 1))
    scales = levels.fit(w)
    found = every_level(levels, scales)[:, 0]
    pick = levels.picker(scales)
    for row in w:
        digits, weight = pick(row)
        np.testing.assert_allclose((digits * scales).sum(0), weight, rtol=1e-12)
        assert np.abs(row - weight)[0] == pytest.approx(np.abs(found - row).min())
    assert len(found) == (3**levels.branches if isinstance(levels, TernaryLevels) else 2 * levels.top + 1)


@pytest.mark.parametrize("branches", [1, 2, 3])
def test_ternary_scales_become_whole_numbers_that_sum_to_127(branches):
    levels = TernaryLevels(branches)
    codes = RNG.integers(-1, 2, (branches, 9, 4)).astype(np.int8)
    scales = RNG.normal(size=(branches, 4))
    new, parts, unit = levels.form(codes, scales)
    assert (parts.sum(0) == 127).all() and (np.diff(parts, axis=0) <= 0).all() and levels.allowed(new).all()
    before, after = (codes * scales[:, None]).sum(0), (new * (parts * unit)[:, None]).sum(0)
    np.testing.assert_allclose(after, before, atol=0.4 * np.abs(scales).max())


def test_a_linear_column_has_a_weight_at_its_largest_level():
    levels = LinearLevels(3)
    codes = np.array([[[3, 1, 0], [0, 2, 0], [-1, 0, 0]]], np.int8)
    assert levels.allowed(codes).tolist() == [True, False, True]
    new, parts, unit = levels.form(codes, np.array([[-2.0, 1.0, 1.0]]))
    assert np.array_equal(new[0][:, 0], -codes[0][:, 0]) and (parts == 1).all() and unit.tolist() == [2, 1, 1]


def test_the_step_of_a_linear_column_has_the_least_squared_error():
    w = RNG.standard_t(3, size=(200, 6))
    levels = LinearLevels(7)
    step = levels.fit(w)

    def error(step):
        return np.square(np.clip(np.rint(w / step), -7, 7) * step - w).sum(0)

    coarsest = np.abs(w).max(0) / 7
    assert (
        (error(step) <= error(coarsest)).all() and (step[0] <= coarsest).all() and (error(step) < error(coarsest)).any()
    )
