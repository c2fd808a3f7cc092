"""The user's network: its file, and what it takes for the pixel values 0 and 255."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_dbq import keras3
from keras_dbq.compat import keras, tf


def load_model(path: str) -> Any:
    """A Keras model file (.keras, .h5, SavedModel folder) of tf_keras or Keras 3, not compiled.

    Raises ValueError where there is none, or it does not have one input of fixed size.
    """
    if not Path(path).exists():
        raise ValueError(f"--model {path}: expected a .keras or .h5 file or a SavedModel folder, found nothing")
    model = keras3.load_model(path)
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise ValueError(f"--model {path}: expected one input [N, H, W, C], got {[t.shape for t in model.inputs]}")
    if None in tuple(model.inputs[0].shape[1:]):
        raise ValueError(f"--model {path}: expected an input of fixed size, got {tuple(model.inputs[0].shape[1:])}")
    return model


def preparation(model: Any, value_range: str) -> Callable[[Any], Any]:
    """uint8 pictures -> float32, what the network takes: 0 becomes the range's first number, 255 its second.

    Raises:
      ValueError: no two numbers; or none given, and the network does not begin with a Rescaling or Normalization.
    """
    if not value_range:
        if not any(isinstance(x, (keras.layers.Rescaling, keras.layers.Normalization)) for x in model.layers[:3]):
            raise ValueError(
                "--range: expected what the network takes for the pixel values 0 and 255, such as 0,1 or -1,1 (this "
                "network has no Rescaling layer that would say it), got nothing"
            )
        value_range = "0,255"
    try:
        low, high = (float(part) for part in value_range.split(","))
    except ValueError:
        raise ValueError(f"--range: expected two numbers such as -1,1, got {value_range!r}") from None
    step, start = np.float32((high - low) / 255), np.float32(low)
    return lambda x: tf.cast(x, tf.float32) * step + start
