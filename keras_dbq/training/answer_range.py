"""`calibrate_answers`: the range of the outputs' grid at which their rounding changes the answers least."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.network.batches import Batches
from keras_dbq.network.graph import Graph, inputs
from keras_dbq.ops import activations as activation_ops
from keras_dbq.quantizers import ActivationQuantizer
from keras_dbq.training import losses
from keras_dbq.training.outputs import checked_answers, logits_model
from keras_dbq.wrapping import naming, wrappers

# choice: fractions of the largest and of the smallest value that are tried, and vectors of outputs that are looked at.
_STEPS, _ROWS = 40, 4096


def calibrate_answers(
    q_model: keras.Model, data: Any, answers: str | None = None, *, progress: bool | None = None
) -> tuple[float, float]:
    """Narrows the range of a quantized model's outputs to where its classes differ, in place.

    Outputs are rounded to 8 bits. The range that holds all of them wastes codes on classes that are out of the
    question, and of many classes two may then round to the same code. derived: the range [a low, b high], a in 0..1, b
    in (0, 1], with the least mean divergence of softmax(rounded outputs) from softmax(outputs), one end after the
    other, twice; what lies outside of it is clipped. The outputs keep their meaning, but for those that were clipped.

    To be called last: training may move ranges, and `distill`'s loss "rmse" wants all outputs.

    Args:
      q_model: quantized model of one output.
      data: pictures as for `quantize_model`; labels are not used.
      answers: what the outputs mean, as for `reconstruct`: "softmax" or "sigmoid". None: what the model ends in, where
        that is one of both.
      progress: show a bar; None: on a terminal.

    Returns:
      Mean divergence of the rounded outputs' answers from those of the outputs before their rounding, nats: (before,
      after). Where no range is better, the old one is kept.

    Raises:
      TypeError: not a model.  ValueError: not quantized, several outputs, outputs that are not rounded, `answers` that
        do not fit how the model ends or are not known, bad data.
    """
    wrappers.check_quantized(q_model, "calibrate_answers")
    meant = checked_answers(answers, q_model)
    if meant == "numbers":
        raise ValueError(
            "calibrate_answers: expected outputs that are class scores, got a model whose end does not say so; say "
            "answers='softmax' or 'sigmoid', or leave the range as it is"
        )
    logits = logits_model(q_model)
    tensor = _rounded(q_model, logits)
    if tensor is None:
        raise ValueError(
            "calibrate_answers: expected outputs that are rounded to a range, got those of "
            f"{logits.layers[-1].name!r}, which are not; there is nothing to calibrate"
        )
    rows = _rows(logits, tensor.quantizer, Batches(data, q_model, progress=progress))

    def cost(grid: tuple[Any, Any]) -> float:
        rounded = tf.constant(activation_ops.rounded_to(rows, *grid, tensor.quantizer.bits))
        # Below 0 is float rounding.
        return max(float(losses.logits_loss("kl", rounded, tf.constant(rows), answer=meant)), 0.0)

    before = cost(tensor.quantizer.grid(tensor.variables))
    low, high = _best(tensor.quantizer, min(float(rows.min()), 0.0), max(float(rows.max()), 1e-5), cost)
    after = cost(_grid(tensor.quantizer, low, high))
    if after >= before:
        return before, before
    tensor.quantizer.calibrate(tensor.variables, low, high)
    return before, after


def are_rounded(q_model: keras.Model) -> bool:
    """Whether the output of a quantized model, before a softmax or sigmoid, has a range to calibrate."""
    return _rounded(q_model, logits_model(q_model)) is not None


def _rounded(q_model: keras.Model, logits: keras.Model) -> Any:
    """How the outputs before a softmax or sigmoid are quantized, or None where they have no range that moves, or one
    that another call of the layer needs as it is.

    Layers behind them that only move values, as a reshape does, have no quantizer of their own.
    """
    graph, tensor = Graph(q_model), logits.outputs[0]
    quantized = {id(found.tensor): found.node.layer for found in naming.quantized_outputs(q_model)}
    while id(tensor) not in quantized:
        node = graph.producer(tensor)
        if node is None or len(inputs(node)) != 1:
            return None
        tensor = inputs(node)[0]
    layer = quantized[id(tensor)]
    if len(graph.calls(layer)) > 1 or len(graph.readers(tensor)) > 1:
        return None
    found: Any = wrappers.quantized_output(layer)
    moves = isinstance(found.quantizer, ActivationQuantizer) and found.quantizer.fixed is None
    return found if moves else None


def _rows(logits: keras.Model, quantizer: Any, batches: Batches) -> np.ndarray:
    """The outputs before their rounding, at most about _ROWS of them from all pictures alike; float64 [rows, C]."""
    found, each = [], max(1, _ROWS // max(batches.pictures, 1))
    with wrappers.bypassed([quantizer]):
        for batch in batches.read("answers"):
            values = np.asarray(logits(batch if len(batch) > 1 else batch[0], training=False), np.float64)
            values = values.reshape(len(values), -1, values.shape[-1])
            places = np.unique(np.linspace(0, values.shape[1] - 1, each).astype(int))
            found.append(values[:, places].reshape(-1, values.shape[-1]))
    rows = np.concatenate(found)
    if not np.isfinite(rows).all():
        raise ValueError(
            "calibrate_answers: expected finite outputs, got NaN or infinity; check the network's weights and the "
            "pictures' scale"
        )
    return rows


def _grid(quantizer: Any, low: float, high: float) -> tuple[Any, Any]:
    """(scale, zero point) of the range that a calibration with these extremes gives."""
    bottom, top = quantizer.bounds(low, high)
    return activation_ops.nudged_grid(bottom, top, quantizer.bits)


def _best(quantizer: Any, low: float, high: float, cost: Callable[[tuple[Any, Any]], float]) -> tuple[float, float]:
    """The range of least cost within [low, high]; the widest wins a tie."""
    fractions = np.arange(_STEPS, -1, -1) / _STEPS

    def least(candidates: list[tuple[float, float]]) -> tuple[float, float]:
        return min(candidates, key=lambda candidate: cost(_grid(quantizer, *candidate)))

    if quantizer.symmetric:
        return least([(f * low, f * high) for f in fractions[:-1]])
    widest = low, high
    for _ in range(2):
        low = least([(f * widest[0], high) for f in fractions])[0]
        high = least([(low, f * widest[1]) for f in fractions[:-1]])[1]
    return low, high


__all__ = ["calibrate_answers"]
