"""One block: a few epochs towards its target, and the best state of them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.training import annealing
from keras_dbq.training.learnt_rounding import LearntRounding
from keras_dbq.training.losses import logits_loss
from keras_dbq.training.scaled_adam import ScaledAdam, units
from keras_dbq.training.stored import BATCH, Stored
from keras_dbq.wrapping import wrappers

# choice: a step of learnt rounding's logits, in units of the learning rate.
_ROUNDING_UNIT = 5.0
# choice: where codes gained nothing (the solver's codes of a narrow layer are hard to better), so many of the epochs
# once more with latent weights, which then move biases and scales above all.
_SECOND_TRY = 0.25

# choice: a step takes fewer pictures where a block's maps are large, so many positions of them but not fewer pictures
# than that. A kernel learns from positions, and most of the time of a network goes into its largest maps.
_STEP_POSITIONS, _STEP_PICTURES = 32 * 32 * 32, 4

# How codes train; see `reconstruct`.
CODES = ("annealed", "rounding", "latent")
# choice: codes are annealed where the solver's leave an error so large; with a smaller one more is lost while the curve
# is soft than is gained. MobileNetV2, one branch: the blocks of 0.16 and more gain 5 to 28 %, those of 0.05 and 0.09
# nothing; ResNet-20: blocks of up to 0.07 nothing, of 0.13 less than from learnt rounding.
_ANNEALED_ERROR = 0.15
# choice: (learning rate, share of float inputs) where nothing is said. Measured: docs/quantization.md (34).
_USUAL = {"annealed": (0.04, 0.0), "rounding": (0.02, 0.5), "latent": (0.02, 0.5)}
# choice: the learning rate of the answers, of that of latent weights (measured, the same place).
_ANSWERS_RATE = 0.025

# choice: with fewer steps of a block learnt rounding gains less than latent weights. ResNet-20, one branch: 225 steps
# gain nothing, 700 clearly more (README of the CIFAR-10 example).
_ROUNDING_STEPS = 500


class Settings(NamedTuple):
    """How every block is trained; see `reconstruct`. None: what suits the way in which codes train."""

    epochs: int
    learning_rate: float | None
    batch_size: int
    float_inputs: float | None
    codes: str | None
    seed: int

    def epoch_steps(self, pictures: int) -> int:
        """Steps of one epoch of so many pictures."""
        return -(-pictures // self.batch_size)

    def way(self, few: list[wrappers.QuantizedWeight], pictures: int, error: float) -> str:
        """How these kernels' codes train, on so many pictures, in a block of that error: one of CODES."""
        if self.codes is not None:
            return self.codes
        if error >= _ANNEALED_ERROR and few and all(weight.quantizer.branches == 1 for weight in few):
            return "annealed"
        return "rounding" if self.epochs * self.epoch_steps(pictures) >= _ROUNDING_STEPS else "latent"

    def rate(self, codes: str) -> float:
        """The learning rate at the start."""
        return _USUAL[codes][0] if self.learning_rate is None else self.learning_rate

    def mixed(self, codes: str) -> float:
        """The share of float inputs."""
        return _USUAL[codes][1] if self.float_inputs is None else self.float_inputs


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
    if block.trainable_variables:
        few = annealing.few_levels(block.layers, block.trainable_variables)
        codes = settings.way(few, len(data.trained_on), before)
        mixed = settings.mixed(codes)
        training.run(settings.epochs, codes, settings.rate(codes), mixed)
        if few and codes != "latent" and training.best == before:
            training.run(math.ceil(_SECOND_TRY * settings.epochs), "latent", settings.rate("latent"), mixed)
    return before, training.best


def train_answers(
    block: keras.Model, model: keras.Model, data: Data, settings: Settings, number: int, answer: str
) -> tuple[float, float]:
    """Trains the blocks at the end of a network together, in place, for its answers: the divergence of what it answers
    on the pictures held back from what the float network answers, before and after.

    Args:
      block: from its input to the logits.  data: `wanted` are the float network's logits.  answer: see
        `losses.logits_loss`.
    """
    training = _Training(block, model, data, settings, number, answer)
    before = training.best
    if block.trainable_variables:
        training.run(settings.epochs, "latent", _ANSWERS_RATE * settings.rate("latent"), settings.float_inputs or 0.0)
    return before, training.best


class _Training:
    """The training of one block: the least error so far, on the pictures held back, and the state that had it.

    Args:
      answer: None: the error is the relative squared one; else it is the divergence of answers, of a network that ends
        in this, and training minds the sum of both.
    """

    def __init__(
        self,
        block: keras.Model,
        model: keras.Model,
        data: Data,
        settings: Settings,
        number: int,
        answer: str | None = None,
    ):
        self.block, self.model, self.data, self.settings, self._answer = block, model, data, settings, answer
        self._infer, self._rng, self._done = inference(block), np.random.default_rng([settings.seed, number]), 0
        self._power = max(float(np.mean([np.square(data.wanted[i]).mean() for i in data.held_back])), 1e-20)
        self.best = self._held_back()
        self._state = [v.numpy() for v in block.trainable_variables]

    def run(self, epochs: int, codes: str, rate: float, mixed: float) -> None:
        """Some epochs; it ends with the best state.

        Args:
          codes: how those of few levels train, one of CODES; other weights move as they do in `fit`.
          rate: learning rate at the start.  mixed: share of float inputs.
        """
        few = annealing.few_levels(self.block.layers, self.block.trainable_variables)
        rounded = [LearntRounding(weight) for weight in few] if codes == "rounding" else []
        annealed = annealing.Annealing(few) if codes == "annealed" else None
        with (
            wrappers.quantizer_flags(self.model, weights_training=True),
            wrappers.bypassed([kernel.weight.quantizer for kernel in rounded]),  # taken as they are
            contextlib.nullcontext() if annealed is None else annealed.soft(),
        ):
            step = self._step(rounded, rate, mixed)
            for epoch in range(epochs):
                places = _order(self.data, self.settings, self._rng)
                for i, some in enumerate(places):
                    batch = (tf.constant(s[some]) for s in (self.data.given, self.data.float_given, self.data.wanted))
                    done = (epoch + i / len(places)) / epochs
                    if annealed is not None:
                        annealed.proceed(done)
                    seed = tf.constant([self.settings.seed, self._done])
                    step(*batch, seed, tf.constant(done, tf.float32))
                    self._done += 1
                if not rounded and annealed is None:  # else the weights are between their levels, which say nothing yet
                    self._keep_if_better()
        for kernel in rounded:
            kernel.harden()
        if rounded or annealed is not None:
            self._keep_if_better()
        for variable, value in zip(self.block.trainable_variables, self._state, strict=True):
            variable.assign(value)

    def _keep_if_better(self) -> None:
        error = self._held_back()
        if error < self.best:
            self.best, self._state = error, [v.numpy() for v in self.block.trainable_variables]

    def _held_back(self) -> float:
        """The error on the pictures held back."""
        total = 0.0
        for i in range(0, len(self.data.held_back), BATCH):
            places = self.data.held_back[i : i + BATCH]
            y, wanted = self._infer(tf.constant(self.data.given[places])), tf.constant(self.data.wanted[places])
            error = (
                self._squared(y, wanted) if self._answer is None else logits_loss("kl", y, wanted, answer=self._answer)
            )
            total += float(error) * len(places)
        return total / len(self.data.held_back)

    def _squared(self, y: Any, wanted: Any) -> Any:
        return tf.reduce_mean(tf.math.squared_difference(y, wanted)) / self._power

    def _step(self, rounded: list[LearntRounding], rate: float, mixed: float) -> Callable[..., Any]:
        """(given, float_given, wanted, seed, share of the training that is done) -> None."""
        variables = self.block.trainable_variables
        kernels = {id(kernel.weight.variable): kernel for kernel in rounded}
        logits = [kernel.logits for kernel in rounded]
        straight = [variable for variable in variables if id(variable) not in kernels]
        sizes = [*units(self.block.layers, straight), *([np.array(_ROUNDING_UNIT, np.float32)] * len(rounded))]
        optimizer = ScaledAdam([*straight, *logits], sizes, rate)

        @tf.function(reduce_retracing=True)
        def step(given: Any, float_given: Any, wanted: Any, seed: Any, done: Any) -> None:
            optimizer.learning_rate.assign(0.5 * rate * (1 + tf.cos(math.pi * done)))
            for kernel in rounded:
                kernel.soften()
            if mixed:
                given = tf.where(tf.random.stateless_uniform(tf.shape(given), seed) < mixed, float_given, given)
            with tf.GradientTape() as tape:
                y = self.block(given, training=False)
                loss = self._squared(y, wanted)
                if self._answer is not None:
                    loss += logits_loss("kl", y, wanted, answer=self._answer)
            moved = []
            for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
                if gradient is not None and id(variable) in kernels:
                    kernel = kernels[id(variable)]
                    moved.append((kernel.gradient(gradient, done), kernel.logits))
                elif gradient is not None:
                    moved.append((gradient, variable))
            optimizer.apply_gradients(moved)

        return step


def _order(data: Data, settings: Settings, rng: np.random.Generator) -> list[np.ndarray]:
    """Batches of one epoch: each picture at most once (`Data.step_pictures`), as itself or as one of its copies."""
    copies = len(data.given) // data.pictures
    chosen = data.trained_on + data.pictures * rng.integers(0, copies, len(data.trained_on))
    parts = np.array_split(rng.permutation(chosen), settings.epoch_steps(len(chosen)))
    return [np.sort(part[: data.step_pictures(settings.batch_size)]) for part in parts]
