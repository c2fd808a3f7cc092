"""Temperature schedules: plain functions of the step, for a callback or a loop of your own."""

import math
from typing import Any

from keras_dbq import _checks


class Schedule:
    """T as a function of the training step."""

    def __call__(self, step: int) -> float:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return dict(self.__dict__)


class Constant(Schedule):
    """T stays at `value`."""

    def __init__(self, value: float):
        self.value = _checks.number("temperature", value, 1e-3, 1e6)

    def __call__(self, step: int) -> float:
        return self.value


class Exponential(Schedule):
    """T rises from `start` to `end` by a constant factor per step, over `steps` steps, and stays there."""

    def __init__(self, start: float, end: float, steps: int):
        self.start = _checks.number("start temperature", start, 1e-3, 1e6)
        self.end = _checks.number("end temperature", end, 1e-3, 1e6)
        self.steps = _checks.integer("steps", steps, 1, 2**31)

    def __call__(self, step: int) -> float:
        return self.start * math.exp(math.log(self.end / self.start) * min(max(step, 0) / self.steps, 1.0))


class Linear(Schedule):
    """T rises linearly from `start` to `end` over `steps` steps, and stays there (source: Quantization Networks)."""

    def __init__(self, start: float, end: float, steps: int):
        self.start = _checks.number("start temperature", start, 1e-3, 1e6)
        self.end = _checks.number("end temperature", end, 1e-3, 1e6)
        self.steps = _checks.integer("steps", steps, 1, 2**31)

    def __call__(self, step: int) -> float:
        return self.start + (self.end - self.start) * min(max(step, 0) / self.steps, 1.0)


TemperatureSchedule = Schedule  # its name in 0.1; `callbacks.TemperatureSchedule` is what drives one
