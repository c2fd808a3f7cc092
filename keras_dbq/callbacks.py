"""Keras callbacks; each only calls a function that a loop of your own can call as well."""

import warnings
from collections.abc import Callable
from typing import Any

from keras_dbq import inspection
from keras_dbq.compat import keras
from keras_dbq.schedules import Exponential


class TemperatureSchedule(keras.callbacks.Callback):
    """Sets the temperature of all ternary layers before every training step.

    Args:
      schedule: a function of the step, such as `keras_dbq.schedules.Exponential(4, 200, steps)`; or
      start, end, steps: those of an exponential schedule.
      first_step: step at which training starts (after a resume: optimizer.iterations).

    In a loop of your own: `keras_dbq.set_temperature(q_model, schedule(step))`.
    """

    def __init__(
        self,
        schedule: Callable[[int], float] | None = None,
        *,
        start: float = 4.0,
        end: float = 200.0,
        steps: int | None = None,
        first_step: int = 0,
    ):
        super().__init__()
        if schedule is None and steps is None:
            self._spread = (start, end)  # over the whole of fit, known when it begins
        self.schedule = schedule if schedule is not None or steps is None else Exponential(start, end, steps)
        self.step = first_step

    def on_train_begin(self, logs: Any = None) -> None:
        forwards = inspection.forward_modes(self.model)
        if forwards and forwards <= {"straight_through"}:
            warnings.warn(
                "TemperatureSchedule: every ternary layer trains straight-through, which has no temperature; choose "
                'forward="smooth" or "hard" in the scheme, or leave the callback out',
                stacklevel=2,
            )
        if self.schedule is None:
            steps = (self.params.get("steps") or 1) * self.params["epochs"]
            self.schedule = Exponential(*self._spread, steps)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        assert self.schedule is not None
        inspection.set_temperature(self.model, self.schedule(self.step))
        self.step += 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None and self.schedule is not None:
            logs["temperature"] = self.schedule(max(self.step - 1, 0))


class SparsityLogger(keras.callbacks.Callback):
    """Adds the share of zeros per branch, over all ternary layers, to the logs of every epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            for branch, share in enumerate(inspection.sparsity(self.model)):
                logs[f"sparsity_branch_{branch + 1}"] = share
