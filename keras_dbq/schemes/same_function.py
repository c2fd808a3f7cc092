"""The proof that the rewrites kept what a network computes, made for every network that is quantized."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.wrapping import wrappers

# choice: a wrong rewrite changes the answer by its own size; folding batch norms, by float32 rounding alone.
TOLERANCE = 0.1
_EXAMPLES = 2


def check_same_function(model: keras.Model, q_model: keras.Model) -> None:
    """Compares the float model with its quantized form, all quantizers off, on random inputs.

    derived: every rewrite of `schemes` is exact in float. Networks of open sizes, and those whose answer is not finite
    or not the same twice (a Lambda that draws numbers), are not compared.

    Raises:
      ValueError: shapes differ, or the distance is over `TOLERANCE` of the answer's size.
    """
    shapes = [tensor.shape[1:] for tensor in model.inputs]
    if any(None in shape for shape in shapes):
        return
    rng = np.random.default_rng(0)
    x = [
        tf.constant(rng.normal(size=(_EXAMPLES, *shape)), tensor.dtype)
        for shape, tensor in zip(shapes, model.inputs, strict=True)
    ]
    wanted = _answers(model, x)
    with wrappers.quantizer_flags(q_model, weights_bypass=True, activations_bypass=True):
        got = _answers(q_model, x)
    for number, (want, have) in enumerate(zip(wanted, got, strict=True)):
        if want.shape != have.shape or (_apart(want, have) and not _apart(want, _answers(model, x)[number])):
            sizes = f"shape {list(want.shape[1:])}, then {list(have.shape[1:])}"
            raise ValueError(
                f"model {model.name!r}: expected the same answer after the rewrites, got another one in output "
                f"{number} ({sizes}); this is a fault of keras_dbq: please report the network"
            )


def _answers(model: keras.Model, x: list[Any]) -> list[np.ndarray]:
    given = tf.nest.pack_sequence_as(model.input, x) if len(x) > 1 else x[0]
    return [np.asarray(y, np.float64) for y in tf.nest.flatten(model(given, training=False))]


def _apart(left: np.ndarray, right: np.ndarray) -> bool:
    """Whether two finite answers are further apart than rounding makes them."""
    size = np.linalg.norm(left)
    return bool(np.isfinite(size) and np.linalg.norm(left - right) > TOLERANCE * size + 1e-6)
