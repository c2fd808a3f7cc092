"""Charts: the numbers in them, and that many can stand in one page."""

import re

import numpy as np

from keras_dbq.reporting import plots
from keras_dbq.reporting.errors import Error


def test_a_staircase_goes_through_its_thresholds():
    x, y = plots.staircase(np.array([3.0, 1.0]), np.array([-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5]))
    np.testing.assert_array_equal(np.unique(y), np.arange(-4, 5))
    assert len(x) == len(y) == 18 and np.all(np.diff(x) >= 0) and x[0] < -3.5 < 3.5 < x[-1]
    np.testing.assert_array_equal(np.round(x[1:-1:2]), np.round(x[2::2]))


def test_levels_by_their_codes():
    codes = np.array([[-1, 0, 0, 1], [0, 0, 1, 1]])
    names, shares = plots.level_shares(codes)
    assert names == ["--", "-0", "-+", "0-", "00", "0+", "+-", "+0", "++"]
    np.testing.assert_array_equal(shares, [0, 0.25, 0, 0, 0.25, 0.25, 0, 0, 0.25])


def test_names_are_text_and_ids_are_apart():
    drawn = [
        plots.bytes_by_layer(["conv<1>", "(metadata)"], [100, 20], ["int8", "other"]),
        plots.signal_to_noise([Error("a", 30, 1)], [Error("b", 20, 1)]),
        plots.costs({"a": 0.5, "b": 0.0}),
        plots.times(["a"], [3.0]),
    ]
    for svg in drawn:
        assert svg.startswith("<svg") and "</svg>" in svg
    assert "conv&lt;1&gt;" in drawn[0] and "(metadata)" in drawn[0]
    clips = [set(re.findall(r'clipPath id="(\w+)"', svg)) for svg in drawn]
    assert all(clips) and sum(map(len, clips)) == len(set.union(*clips))
