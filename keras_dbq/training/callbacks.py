"""Keras callbacks; each only does what a loop of your own can do as well.

Those that follow the training step find it themselves: `fit` begins at step epoch * steps per epoch, also where
`BackupAndRestore` or `initial_epoch` made it go on later, and every update of the optimizer is one step more.
With `steps_per_execution` above 1 they act once per execution, with the value of its first step.
"""

import io
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_dbq import _checks
from keras_dbq._files import write_file
from keras_dbq.compat import keras, tf
from keras_dbq.inspection.saturation import warn_of_saturation
from keras_dbq.inspection.weights import forward_modes, sparsity
from keras_dbq.training.annealing import Annealing
from keras_dbq.training.schedules import Exponential
from keras_dbq.training.tensorboard import TensorBoardQuantization
from keras_dbq.wrapping.temperature import set_temperature


class _StepCallback(keras.callbacks.Callback):
    """Knows the training step.

    step: that of the last batch (or execution) that began.
    """

    def __init__(self, first_step: int | None = None):
        super().__init__()
        self.first_step = None if first_step is None else _checks.integer("first_step", first_step, 0, 2**63 - 1)
        self.step = 0
        self._offset: int | None = None
        self._epoch = 0

    def on_train_begin(self, logs: Any = None) -> None:
        self._offset = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def _advance(self, batch: int) -> int:
        """Returns the step of a batch that begins."""
        updates = int(keras.backend.get_value(self.model.optimizer.iterations))
        if self._offset is None:
            self._offset = self._beginning(batch, updates) - updates
        self.step = updates + self._offset
        return self.step

    def _beginning(self, batch: int, updates: int) -> int:
        if self.first_step is not None:
            return self.first_step
        steps = self.params.get("steps")
        return updates if steps is None else self._epoch * steps + batch


class TemperatureSchedule(_StepCallback):
    """Sets the temperature of all ternary layers before every training step, and adds it to the logs of every epoch.

    To be given before callbacks that write logs (CSVLogger, TensorBoard).

    Args:
      schedule: a function of the step, such as `keras_dbq.schedules.Exponential(4, 200, steps)`; or
      start, end, steps: those of an exponential schedule; steps None: all of `fit`'s.
      first_step: step at which `fit` begins; None: found as the module says.

    In a loop of your own: `keras_dbq.set_temperature(q_model, schedule(step))` before each step, with
    `step = int(optimizer.iterations)`, which a restored checkpoint brings back.

    Raises:
      ValueError: steps None, and `fit` does not know how many batches an epoch has.
    """

    def __init__(
        self,
        schedule: Callable[[int], float] | None = None,
        *,
        start: float = 4.0,
        end: float = 200.0,
        steps: int | None = None,
        first_step: int | None = None,
    ):
        super().__init__(first_step)
        self._spread = (start, end) if schedule is None and steps is None else None
        self.schedule = schedule if schedule is not None or steps is None else Exponential(start, end, steps)
        self.temperature: float | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        self._check_modes()
        if self._spread is None:
            return
        if self.params.get("steps") is None:
            raise ValueError(
                "TemperatureSchedule: expected the number of steps of the whole training, because the data set does "
                "not know its length; give steps=..., or apply tf.data.experimental.assert_cardinality"
            )
        self.schedule = Exponential(*self._spread, self.params["steps"] * self.params["epochs"])

    def _check_modes(self) -> None:
        modes = forward_modes(self.model)
        if not modes <= {"straight_through"}:
            return
        straight = "every ternary layer trains straight-through, which has no temperature; choose forward="
        what = f'{straight}"smooth" or "hard" in the scheme, or' if modes else "the model has no ternary layer;"
        warnings.warn(f"TemperatureSchedule: {what} leave the callback out", stacklevel=3)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        assert self.schedule is not None
        self.temperature = self.schedule(self._advance(batch))
        set_temperature(self.model, self.temperature)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None and self.temperature is not None:
            logs["temperature"] = self.temperature


class CosineAnnealing(_StepCallback):
    """The learning rate falls from `rate` to 0 along half a cosine, again and again; at the start of each cycle the
    optimizer's memory (Adam's moments) is emptied. source: Goncharenko et al. (FAT).

    choice: a callback, because Keras' `CosineDecayRestarts` (the same rates with t_mul = m_mul = 1) leaves the memory.

    Args:
      rate: at the start of each cycle.
      steps: of one cycle.
      first_step: step at which `fit` begins; None: found as the module says.

    In a loop of your own, before each step: `optimizer.learning_rate = rate / 2 * (1 + cos(pi * (step % steps) /
    steps))`, and where `step % steps` is 0 assign zeros to all `optimizer.variables` but iterations and learning rate.

    Raises:
      ValueError: a negative rate, less than one step.
      TypeError: from Keras, where the optimizer's learning rate is a schedule of its own.
    """

    def __init__(self, rate: float, steps: int, first_step: int | None = None):
        super().__init__(first_step)
        self.rate = _checks.number("rate", rate, 0.0, math.inf)
        self.steps = _checks.integer("steps", steps, 1, 2**63 - 1)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        last, step = self.step, self._advance(batch)
        position = step % self.steps
        if step and (position == 0 or step // self.steps > last // self.steps):
            self._empty_memory()
        self.model.optimizer.learning_rate = self.rate * 0.5 * (1 + math.cos(math.pi * position / self.steps))

    def _empty_memory(self) -> None:
        # A LossScaleOptimizer lists its loss scale as well, which is no memory of the optimizer inside.
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        kept = {id(optimizer.iterations), id(optimizer.learning_rate)}
        for variable in optimizer.variables:
            if id(variable) not in kept:
                variable.assign(tf.zeros_like(variable))


class AnnealedCodes(_StepCallback):
    """The soft curve of annealed codes grows as sharp as the steps between the levels; see `distill(codes="annealed")`.

    Args:
      annealing: `training.annealing.Annealing` of the weights; `fit` is to be called inside of its `soft()`.
      steps: of the whole training.
      first_step: step at which `fit` begins; None: found as the module says.

    In a loop of your own, before each step: `annealing.proceed(step / steps)`.
    """

    def __init__(self, annealing: Annealing, steps: int, first_step: int | None = None):
        super().__init__(first_step)
        self.annealing, self.steps = annealing, _checks.integer("steps", steps, 1, 2**63 - 1)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.annealing.proceed(self._advance(batch) / self.steps)


class LastGoodEpoch(keras.callbacks.Callback):
    """Stops when the loss is not finite, and puts model and optimizer back to the end of the last epoch whose loss was.

    A warning says so. The optimizer's memory goes back as well, because a NaN in it would spoil whatever trains next.

    failed_epoch: the epoch (from 0) in which the loss was not finite; None if there was none.

    In a loop of your own: keep `model.get_weights()` and the values of `optimizer.variables` after each epoch, and
    assign them again if `not numpy.isfinite(loss)`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failed_epoch: int | None = None
        self._good: tuple[list[np.ndarray], list[np.ndarray]] | None = None
        self._epoch = 0

    def on_train_begin(self, logs: Any = None) -> None:
        self.failed_epoch, self._good = None, None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch
        if self._good is None:  # not when training begins: BackupAndRestore may put other weights there meanwhile
            self._keep()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.failed_epoch is not None or np.isfinite((logs or {}).get("loss", 0.0)):
            return
        self.failed_epoch = self._epoch
        self._put_back()
        self.model.stop_training = True
        warnings.warn(
            f"epoch {self._epoch + 1}: the loss is not finite; the weights of the last good epoch were put back and "
            "training stopped: lower the learning rate",
            stacklevel=2,
        )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.failed_epoch is None:
            self._keep()

    def _keep(self) -> None:
        self._good = self.model.get_weights(), keras.backend.batch_get_value(self.model.optimizer.variables)

    def _put_back(self) -> None:
        assert self._good is not None
        weights, memory = self._good
        self.model.set_weights(weights)
        for i, variable in enumerate(self.model.optimizer.variables):
            # In the first epoch the optimizer makes variables that were not there before it: they start at 0.
            variable.assign(memory[i] if i < len(memory) else tf.zeros_like(variable))


class BestEpoch(keras.callbacks.Callback):
    """Ends training with the weights that had the smallest loss on some pictures, those before training included.

    Adds that loss to the logs of every epoch as "val_loss".

    Args:
      pictures: tf.data.Dataset of batches for `model.evaluate`.
      model: the compiled model, as it is before `fit`; its weights are the first that count.
      file: where the best weights are kept after every better epoch, for training that goes on after a kill
        (`BackupAndRestore`, to be given behind this one); None: nowhere. What lies there already counts from the start.

    best_epoch: the epoch (from 0) whose weights were kept; -1: those before training.

    In a loop of your own: evaluate before training and after each epoch, keep `model.get_weights()` of the smallest
    loss, and set them at the end.
    """

    def __init__(self, pictures: tf.data.Dataset, model: keras.Model, file: str | os.PathLike | None = None):
        super().__init__()
        self.pictures, self.file = pictures, None if file is None else Path(file)
        self.best_epoch = -1
        if self.file is not None and self.file.is_file():
            with np.load(self.file, allow_pickle=False) as kept:
                self._loss, self.best_epoch = float(kept["loss"]), int(kept["epoch"])
                self._weights = [kept[f"arr_{i}"] for i in range(len(kept.files) - 2)]
        else:
            self._loss, self._weights = self._evaluated(model), model.get_weights()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        loss = self._evaluated(self.model)
        if logs is not None:
            logs["val_loss"] = loss
        if loss < self._loss or not math.isfinite(self._loss):
            self._loss, self._weights, self.best_epoch = loss, self.model.get_weights(), epoch
            if self.file is not None:
                stream = io.BytesIO()
                np.savez(stream, *self._weights, loss=loss, epoch=epoch)
                write_file(self.file, stream.getvalue())

    def on_train_end(self, logs: Any = None) -> None:
        self.model.set_weights(self._weights)

    def _evaluated(self, model: keras.Model) -> float:
        return float(model.evaluate(self.pictures, return_dict=True, verbose=0)["loss"])


class RangeCheck(keras.callbacks.Callback):
    """Warns at the beginning of `fit` where pictures lie outside of the ranges of the model's inputs.

    A callback does not see the data of `fit`, so it gets some pictures of its own. (`Distiller.fit` looks by itself.)

    Args:
      x: some pictures as `fit` gets them, [N, ...], or a list of arrays for a model of several inputs.
    """

    def __init__(self, x: Any):
        super().__init__()
        self.x = x if isinstance(x, list) else [x]

    def on_train_begin(self, logs: Any = None) -> None:
        warn_of_saturation("fit", self.model, self.x)


class SparsityLogger(keras.callbacks.Callback):
    """Adds the share of zeros per branch, over all ternary layers, to the logs of every epoch.

    To be given before callbacks that write logs (CSVLogger, TensorBoard).
    """

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            for branch, share in enumerate(sparsity(self.model)):
                logs[f"sparsity_branch_{branch + 1}"] = share


__all__ = [
    "AnnealedCodes",
    "BestEpoch",
    "CosineAnnealing",
    "LastGoodEpoch",
    "RangeCheck",
    "SparsityLogger",
    "TemperatureSchedule",
    "TensorBoardQuantization",
]
