"""A small network that remembers its pictures as a trained one does, and photos."""

import numpy as np

from keras_dbq.command.ranges import scaled
from keras_dbq.compat import keras

L = keras.layers


def photos(count=40, size=16, channels=3, seed=0):
    """Smooth random pictures, uint8 [N, size, size, C], drawn by the test, with colours that differ."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 4, channels)) * np.array([1.0, 0.8, 0.55])[:channels]
    smooth = np.repeat(np.repeat(coarse, size // 4, 1), size // 4, 2)
    return np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def trained(range_name, channels=3, classes=4):
    """A network whose batch norm has the moments of other photos in a range."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((16, 16, channels), name="photo")
    convolution = L.Conv2D(12, 3, padding="same", use_bias=False, name="stem")
    norm = L.BatchNormalization(name="norm")
    x = L.ReLU()(norm(convolution(inputs)))
    x = L.ReLU()(L.Conv2D(12, 3, name="body")(x))
    model = keras.Model(inputs, L.Dense(classes, name="head")(L.GlobalAveragePooling2D()(x)))
    seen = convolution(scaled(photos(seed=5, channels=channels), range_name)).numpy().reshape(-1, 12)
    norm.set_weights([np.ones(12), np.zeros(12), seen.mean(0), seen.var(0)])
    return model


def command(capfd, *arguments):
    """(exit code, standard output, standard error) of the command, run in this process."""
    from keras_dbq.command import main

    capfd.readouterr()
    code = main([str(argument) for argument in arguments])
    return (code, *capfd.readouterr())
