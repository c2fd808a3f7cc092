"""Charts: the numbers in them, and that many can stand in one page."""

import re

from keras_dbq.reporting import plots
from keras_dbq.reporting.errors import Error


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
