"""Staircases and shares of levels as numbers."""

import numpy as np

from keras_dbq.inspection import staircases


def test_a_staircase_goes_through_its_thresholds():
    x, y = staircases.staircase(np.array([3.0, 1.0]), np.array([-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5]))
    np.testing.assert_array_equal(np.unique(y), np.arange(-4, 5))
    assert len(x) == len(y) == 18 and np.all(np.diff(x) >= 0) and x[0] < -3.5 < 3.5 < x[-1]
    np.testing.assert_array_equal(np.round(x[1:-1:2]), np.round(x[2::2]))


def test_levels_by_their_codes():
    codes = np.array([[-1, 0, 0, 1], [0, 0, 1, 1]])
    names, shares = staircases.level_shares(codes)
    assert names == ["--", "-0", "-+", "0-", "00", "0+", "+-", "+0", "++"]
    np.testing.assert_array_equal(shares, [0, 0.25, 0, 0, 0.25, 0.25, 0, 0, 0.25])


def test_levels_behind_infinite_thresholds_are_left_out():
    thresholds = np.array([-np.inf, -np.inf, -np.inf, -0.5, 0.5, np.inf, np.inf, np.inf])
    x, y = staircases.staircase(np.array([3.0, 1.0]), thresholds)
    np.testing.assert_array_equal(x, [-6, -0.5, -0.5, 0.5, 0.5, 6])
    np.testing.assert_array_equal(y, [-1, -1, 0, 0, 1, 1])


def test_a_linear_staircase_rounds_at_half_levels():
    x, y = staircases.linear_staircase(0.5, 3)
    assert len(x) == len(y) == 14 and x[0] < -1.5 and x[-1] > 1.5
    middle = (x[::2] + x[1::2]) / 2
    np.testing.assert_allclose(y[::2], np.clip(np.round(middle / 0.5), -3, 3) * 0.5)
    np.testing.assert_array_equal(y[::2], y[1::2])
