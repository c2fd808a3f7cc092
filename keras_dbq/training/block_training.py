"""One block: a few epochs towards its target, and the best state of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.training.learnt_rounding import LearntRounding
from keras_dbq.training.scaled_adam import ScaledAdam, units
from keras_dbq.training.stored import BATCH, Stored
from keras_dbq.wrapping import wrappers

# choice: a step of learnt rounding's logits, in units of the learning rate.
_ROUNDING_UNIT = 5.0
# choice: where rounding gained nothing (the solver's codes of a narrow layer are hard to better), so many of the epochs
# once more with latent weights, which then move biases and scales above all.
_SECOND_TRY = 0.25


# choice: a step takes fewer pictures where a block's maps are large, so many positions of them but not fewer pictures
# than that. A kernel learns from positions, and most of the time of a network goes into its largest maps.
_STEP_POSITIONS, _STEP_PICTURES = 32 * 32 * 32, 4

# choice: with fewer steps of a block learnt rounding gains less than latent weights. ResNet-20, one branch: 225 steps
# gain nothing, 700 clearly more (README of the CIFAR-10 example).
_ROUNDING_STEPS = 500


class Settings(NamedTuple):
    """How every block is trained; see `reconstruct`."""

    epochs: int
    learning_rate: float
    batch_size: int
    float_inputs: float
    codes: str | None
    seed: int

    def epoch_steps(self, pictures: int) -> int:
        """Steps of one epoch of so many pictures."""
        return -(-pictures // self.batch_size)

    def learns_rounding(self, pictures: int) -> bool:
        """Whether codes train by rounding, on so many pictures; else by latent weights."""
        if self.codes is not None:
            return self.codes == "rounding"
        return self.epochs * self.epoch_steps(pictures) >= _ROUNDING_STEPS


class Data(NamedTuple):
    """What a block reads and should give.

    given: its input in the quantized network.  float_given: in the float network.  wanted: its output there.
    trained_on, held_back: numbers of pictures.  pictures: how many there are; copy c of picture i is c * pictures + i.
    """

    given: Stored
    float_given: Stored
    wanted: Stored
    trained_on: np.ndarray
    held_back: np.ndarray
    pictures: int

    def step_pictures(self, batch_size: int) -> int:
        """How many of a batch's pictures a step takes."""
        positions = max(math.prod(stored.values.shape[1:-1]) for stored in (self.given, self.wanted))
        return min(batch_size, max(_STEP_POSITIONS // positions, _STEP_PICTURES))


def inference(model: keras.Model) -> Callable[[Any], Any]:
    """The model as at inference, as a compiled function."""
    return tf.function(lambda x: model(x, training=False))


def train(block: keras.Model, model: keras.Model, data: Data, settings: Settings, number: int) -> tuple[float, float]:
    """Trains a block in place; its error on the pictures held back, before and after.

    Args:
      block: from its input to its output.  model: the whole network.  number: of the block, for the seed.
    """
    training = _Training(block, model, data, settings, number)
    before = training.best
    if not block.trainable_variables:
        return before, before
    rounded = _rounded(block) if settings.learns_rounding(len(data.trained_on)) else []
    training.run(settings.epochs, rounded)
    if rounded and training.best == before:
        training.run(math.ceil(_SECOND_TRY * settings.epochs), [])
    return before, training.best


class _Training:
    """The training of one block: the least error so far, on the pictures held back, and the state that had it."""

    def __init__(self, block: keras.Model, model: keras.Model, data: Data, settings: Settings, number: int):
        self.block, self.model, self.data, self.settings = block, model, data, settings
        self._infer, self._rng, self._done = inference(block), np.random.default_rng([settings.seed, number]), 0
        self._power = max(float(np.mean([np.square(data.wanted[i]).mean() for i in data.held_back])), 1e-20)
        self.best = _error(self._infer, data, self._power)
        self._state = [v.numpy() for v in block.trainable_variables]

    def run(self, epochs: int, rounded: list[LearntRounding]) -> None:
        """Some epochs; it ends with the best state.

        Args:
          rounded: kernels that learn their rounding; other weights move as they do in `fit`.
        """
        with (
            wrappers.quantizer_flags(self.model, weights_training=True),
            wrappers.bypassed([kernel.weight.quantizer for kernel in rounded]),  # taken as they are
        ):
            step = _step(self.block, rounded, self._power, self.settings)
            for epoch in range(epochs):
                places = _order(self.data, self.settings, self._rng)
                for i, some in enumerate(places):
                    batch = (tf.constant(s[some]) for s in (self.data.given, self.data.float_given, self.data.wanted))
                    done = tf.constant((epoch + i / len(places)) / epochs, tf.float32)
                    step(*batch, tf.constant([self.settings.seed, self._done]), done)
                    self._done += 1
                if not rounded:  # else the kernels hold numbers between their levels, which say nothing yet
                    self._keep_if_better()
        for kernel in rounded:
            kernel.harden()
        if rounded:
            self._keep_if_better()
        for variable, value in zip(self.block.trainable_variables, self._state, strict=True):
            variable.assign(value)

    def _keep_if_better(self) -> None:
        error = _error(self._infer, self.data, self._power)
        if error < self.best:
            self.best, self._state = error, [v.numpy() for v in self.block.trainable_variables]


def _rounded(block: keras.Model) -> list[LearntRounding]:
    """Kernels of the block whose rounding trains."""
    weights = [weight for layer in block.layers for weight in wrappers.quantized_weights(layer)]
    trained = {id(variable) for variable in block.trainable_variables}
    return [
        LearntRounding(weight)
        for weight in weights
        if id(weight.variable) in trained and getattr(weight.quantizer, "levels", None)
    ]


def _order(data: Data, settings: Settings, rng: np.random.Generator) -> list[np.ndarray]:
    """Batches of one epoch: each picture at most once (`Data.step_pictures`), as itself or as one of its copies."""
    copies = len(data.given) // data.pictures
    chosen = data.trained_on + data.pictures * rng.integers(0, copies, len(data.trained_on))
    parts = np.array_split(rng.permutation(chosen), settings.epoch_steps(len(chosen)))
    return [np.sort(part[: data.step_pictures(settings.batch_size)]) for part in parts]


def _step(block: keras.Model, rounded: list[LearntRounding], power: float, settings: Settings) -> Callable[..., Any]:
    """(given, float_given, wanted, seed, share of the training that is done) -> None."""
    variables = block.trainable_variables
    kernels = {id(kernel.weight.variable): kernel for kernel in rounded}
    logits = [kernel.logits for kernel in rounded]
    straight = [variable for variable in variables if id(variable) not in kernels]
    sizes = [*units(block.layers, straight), *([np.array(_ROUNDING_UNIT, np.float32)] * len(rounded))]
    optimizer = ScaledAdam([*straight, *logits], sizes, settings.learning_rate)

    @tf.function(reduce_retracing=True)
    def step(given: Any, float_given: Any, wanted: Any, seed: Any, done: Any) -> None:
        optimizer.learning_rate.assign(0.5 * settings.learning_rate * (1 + tf.cos(math.pi * done)))
        for kernel in rounded:
            kernel.soften()
        if settings.float_inputs:
            taken = tf.random.stateless_uniform(tf.shape(given), seed) < settings.float_inputs
            given = tf.where(taken, float_given, given)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.math.squared_difference(block(given, training=False), wanted)) / power
        moved = []
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            if gradient is not None and id(variable) in kernels:
                kernel = kernels[id(variable)]
                moved.append((kernel.gradient(gradient, done), kernel.logits))
            elif gradient is not None:
                moved.append((gradient, variable))
        optimizer.apply_gradients(moved)

    return step


def _error(run: Callable[[Any], Any], data: Data, power: float) -> float:
    """Mean squared error on the pictures held back, relative to the target's power."""
    total = 0.0
    for i in range(0, len(data.held_back), BATCH):
        places = data.held_back[i : i + BATCH]
        difference = run(tf.constant(data.given[places])) - data.wanted[places]
        total += float(tf.reduce_mean(tf.square(difference))) * len(places)
    return total / len(data.held_back) / power
