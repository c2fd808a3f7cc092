"""Temperature schedules and the callback that only drives them."""

import numpy as np
import pytest

from keras_dbq.training import schedules


def test_exponential_and_linear():
    exponential, linear = schedules.Exponential(4, 200, 10), schedules.Linear(4, 200, 10)
    for schedule in (exponential, linear):
        assert schedule(0) == pytest.approx(4) and schedule(10) == pytest.approx(200) and schedule(99) == schedule(10)
        values = [schedule(s) for s in range(11)]
        assert values == sorted(values)
    ratios = np.array([exponential(s + 1) / exponential(s) for s in range(10)])
    np.testing.assert_allclose(ratios, ratios[0])
    np.testing.assert_allclose(np.diff([linear(s) for s in range(11)]), 19.6)
    assert schedules.Constant(8.0)(5) == 8.0
    assert linear.get_config() == {"start": 4.0, "end": 200.0, "steps": 10}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0, 10, 5), "start temperature: expected a number"),
        ((1, float("nan"), 5), "end temperature: expected a number"),
        ((1, 10, 0), "steps: expected an integer"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        schedules.Exponential(*arguments)
