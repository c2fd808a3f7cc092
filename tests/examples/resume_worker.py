"""Child of test_resume.py: trains a small model slowly, so that it can be killed. Usage: resume_worker.py WORKDIR"""

import os
import sys
import time
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.append(str(Path(__file__).resolve().parents[2]))

import numpy as np

from examples.common import input_pipeline, stages, training
from keras_dbq import datasets
from keras_dbq.compat import keras, tf

EPOCHS, STEPS = 4, 4


def model(seed: int = 0):
    """A small network; its batch norm has variables that no gradient trains."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, use_bias=False)(inputs))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))


class Slow(keras.callbacks.Callback):
    """Waits before each step."""

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds = seconds

    def on_train_batch_begin(self, batch: int, logs=None) -> None:
        time.sleep(self.seconds)


def train(network, workdir: Path, seconds_per_step: float = 0.0, callbacks=(), **changes) -> list[dict]:
    """Trains on random pictures; returns the history."""
    settings = training.Settings(**{"epochs": EPOCHS, "steps_per_epoch": STEPS, "weight_decay": 1e-3, **changes})
    stage = stages.open_stage(workdir, "small", {"learning_rate": settings.learning_rate})
    x = np.random.default_rng(0).integers(0, 256, (8 * STEPS, 4, 4, 3), np.uint8)
    pictures = datasets.from_arrays(x, np.arange(8 * STEPS) % 3, classes=3)
    prepare = lambda x: tf.cast(x, tf.float32) / 255  # noqa: E731
    augment = lambda x, key: input_pipeline.crop_and_flip(x, key, 1, True)  # noqa: E731

    def batches(first: int):
        steps = input_pipeline.Steps(augment, prepare)
        return input_pipeline.training_batches(pictures, 8, 0, range(first, settings.epochs), steps)

    optimizer = training.make_optimizer(network.trainable_variables, settings)
    network.compile(optimizer, training.cross_entropy(), metrics=[training.LabelledAccuracy(3)])
    test = input_pipeline.test_batches(pictures, 16, prepare)
    further = [Slow(seconds_per_step), *callbacks]
    training.fit(network, stage, settings, batches, test, "val_accuracy", further)
    return stages.history(stage)


if __name__ == "__main__":
    train(model(), Path(sys.argv[1]), 0.3)
