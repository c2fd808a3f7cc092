"""Keras callbacks; each only does what a loop of your own can do as well."""

import math
import warnings
from collections.abc import Callable
from typing import Any

from keras_dbq import _checks, inspection
from keras_dbq.compat import keras, tf
from keras_dbq.training.schedules import Exponential


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


class CosineAnnealing(keras.callbacks.Callback):
    """The learning rate falls from `rate` to 0 along half a cosine, again and again; at the start of each cycle the
    optimizer's memory (Adam's moments) is emptied. source: Goncharenko et al. (FAT).

    Args:
      rate: at the start of each cycle.
      steps: of one cycle.
      first_step: step at which training starts (after a resume: optimizer.iterations).

    Raises:
      ValueError: a negative rate, less than one step.
    """

    def __init__(self, rate: float, steps: int, first_step: int = 0):
        super().__init__()
        self.rate = _checks.number("rate", rate, 0.0, math.inf)
        self.steps = _checks.integer("steps", steps, 1, 2**63 - 1)
        self.step = _checks.integer("first_step", first_step, 0, 2**63 - 1)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        position = self.step % self.steps
        optimizer = self.model.optimizer
        if position == 0 and self.step:
            kept = {id(optimizer.iterations), id(optimizer.learning_rate)}
            for variable in optimizer.variables:
                if id(variable) not in kept:
                    variable.assign(tf.zeros_like(variable))
        optimizer.learning_rate.assign(self.rate * 0.5 * (1 + math.cos(math.pi * position / self.steps)))
        self.step += 1


class SparsityLogger(keras.callbacks.Callback):
    """Adds the share of zeros per branch, over all ternary layers, to the logs of every epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            for branch, share in enumerate(inspection.sparsity(self.model)):
                logs[f"sparsity_branch_{branch + 1}"] = share
