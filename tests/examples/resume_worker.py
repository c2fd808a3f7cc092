"""Child of test_resume.py: trains a small model slowly, so that it can be killed. Usage: resume_worker.py CHECKPOINT"""

import os
import sys
import time
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.append(str(Path(__file__).resolve().parents[2]))

import numpy as np

from examples.common import training
from examples.common.augmentation import augmented_batches
from keras_dbq.compat import keras

EPOCHS, STEPS = 4, 4


def model(seed: int = 0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, use_bias=False)(inputs))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))


def train(network, checkpoint: Path, seconds_per_step: float = 0.0) -> list[dict]:
    x = np.random.default_rng(0).integers(0, 256, (32, 4, 4, 3), np.uint8)
    batches = augmented_batches(lambda pictures: pictures / np.float32(255), pad=1)
    return training.train(
        network,
        lambda epoch: batches(x, np.arange(32) % 3, 8, 0, epoch),
        training.Settings(EPOCHS, STEPS, weight_decay=1e-3),
        checkpoint,
        before_step=lambda step: time.sleep(seconds_per_step),
    )


if __name__ == "__main__":
    train(model(), Path(sys.argv[1]), 0.5)
