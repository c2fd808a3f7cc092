"""One block: a few epochs towards its target, and the best state of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.training.scaled_adam import ScaledAdam, units
from keras_dbq.training.stored import BATCH, Stored
from keras_dbq.wrapping import wrappers


class Settings(NamedTuple):
    """How every block is trained; see `reconstruct`."""

    epochs: int
    learning_rate: float
    batch_size: int
    float_inputs: float
    seed: int


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


def inference(model: keras.Model) -> Callable[[Any], Any]:
    """The model as at inference, as a compiled function."""
    return tf.function(lambda x: model(x, training=False))


def train(block: keras.Model, model: keras.Model, data: Data, settings: Settings, number: int) -> tuple[float, float]:
    """Trains a block in place; its error on the pictures held back, before and after.

    Args:
      block: from its input to its output.  model: the whole network.  number: of the block, for the seed.
    """
    variables, run = block.trainable_variables, inference(block)
    power = max(float(np.mean([np.square(data.wanted[i]).mean() for i in data.held_back])), 1e-20)
    before = best = _error(run, data, power)
    if not variables:
        return before, before
    state = [v.numpy() for v in variables]
    with wrappers.quantizer_flags(model, weights_training=True):
        optimizer = ScaledAdam(variables, units(block.layers, variables), settings.learning_rate)
        step = _step(block, optimizer, power, settings.float_inputs)
        rng, total = np.random.default_rng([settings.seed, number]), settings.epochs * _steps(data, settings)
        for epoch in range(settings.epochs):
            for i, places in enumerate(_order(data, settings, rng)):
                done = (epoch * _steps(data, settings) + i) / total
                optimizer.learning_rate = 0.5 * settings.learning_rate * (1 + math.cos(math.pi * done))
                batch = (tf.constant(s[places]) for s in (data.given, data.float_given, data.wanted))
                step(*batch, tf.constant([settings.seed, epoch * len(data.given) + i]))
            error = _error(run, data, power)
            if error < best:
                best, state = error, [v.numpy() for v in variables]
    for variable, value in zip(variables, state, strict=True):
        variable.assign(value)
    return before, best


def _steps(data: Data, settings: Settings) -> int:
    return -(-len(data.trained_on) // settings.batch_size)


def _order(data: Data, settings: Settings, rng: np.random.Generator) -> list[np.ndarray]:
    """Batches of one epoch: each picture once, as itself or as one of its copies."""
    copies = len(data.given) // data.pictures
    chosen = data.trained_on + data.pictures * rng.integers(0, copies, len(data.trained_on))
    return [np.sort(part) for part in np.array_split(rng.permutation(chosen), _steps(data, settings))]


def _step(block: keras.Model, optimizer: ScaledAdam, power: float, float_inputs: float) -> Callable[..., Any]:
    @tf.function(reduce_retracing=True)
    def step(given: Any, float_given: Any, wanted: Any, seed: Any) -> None:
        if float_inputs:
            taken = tf.random.stateless_uniform(tf.shape(given), seed) < float_inputs
            given = tf.where(taken, float_given, given)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.math.squared_difference(block(given, training=False), wanted)) / power
        gradients = zip(tape.gradient(loss, block.trainable_variables), block.trainable_variables, strict=True)
        optimizer.apply_gradients([(gradient, v) for gradient, v in gradients if gradient is not None])

    return step


def _error(run: Callable[[Any], Any], data: Data, power: float) -> float:
    """Mean squared error on the pictures held back, relative to the target's power."""
    total = 0.0
    for i in range(0, len(data.held_back), BATCH):
        places = data.held_back[i : i + BATCH]
        difference = run(tf.constant(data.given[places])) - data.wanted[places]
        total += float(tf.reduce_mean(tf.square(difference))) * len(places)
    return total / len(data.held_back) / power
