"""Learnt rounding: which of its two nearest levels each weight takes is trained, nothing else of it.

Notation: levels l < u beside a weight, its place between them h = clip(1.2 sigmoid(v) - 0.1, 0, 1), the soft weight
l + h (u - l). v trains; a penalty 1 - |2h - 1|^beta drives every h to 0 or 1 as beta falls. source: AdaRound (Nagel et
al., ICML 2020), used block by block in BRECQ (Li et al., ICLR 2021).
choice: it starts near the level that the weight has, not at the float weight, because the solver's levels already make
up for each other's errors.
"""

from __future__ import annotations

import numpy as np

from keras_dbq.compat import tf
from keras_dbq.wrapping.lookup import QuantizedWeight

_ZETA, _GAMMA = 1.1, -0.1  # source: AdaRound
_BETA = 20.0, 2.0  # source: AdaRound, from and to
_FREE = 0.2  # source: AdaRound: of the steps, before the penalty begins
_PENALTY = 100.0  # choice: weight of its mean beside the relative squared error
_START = 0.25  # choice: how far from its level a weight starts at most, in steps to the next one


class LearntRounding:
    """One kernel whose rounding is trained; while it trains the kernel's variable holds the soft weights.

    logits: the variable v, in the kernel's shape.
    """

    def __init__(self, weight: QuantizedWeight):
        self.weight = weight
        quantizer, self._start = weight.quantizer, weight.variable.numpy()
        level = weight.quantized_columns()
        low, high = quantizer.neighbours(self._start, weight.variables)
        step = np.where(high > low, high - low, 1.0)
        place, is_high = (quantizer.columns(self._start) - low) / step, (level - low) / step > 0.5
        place = np.clip(place, np.where(is_high, 1 - _START, 0), np.where(is_high, 1, _START))
        sigmoid = np.clip((place - _GAMMA) / (_ZETA - _GAMMA), 0.1, 0.9)
        self.logits = tf.Variable(self._shaped(np.log(sigmoid / (1 - sigmoid))))
        self._low, self._step = (tf.constant(self._shaped(part)) for part in (low, high - low))

    def _shaped(self, columns: np.ndarray) -> np.ndarray:
        return columns.astype(np.float32).reshape(self._start.shape)

    def _place(self) -> tf.Tensor:
        return tf.clip_by_value(tf.sigmoid(self.logits) * (_ZETA - _GAMMA) + _GAMMA, 0.0, 1.0)

    def soften(self) -> None:
        """Writes the soft weights into the kernel."""
        self.weight.variable.assign(self._low + self._step * self._place())

    def gradient(self, kernel_gradient: tf.Tensor, done: tf.Tensor) -> tf.Tensor:
        """Of the loss and the penalty by v.

        Args:
          kernel_gradient: of the loss by the soft weights.  done: share of the training that is over, 0 to 1.
        """
        with tf.GradientTape() as tape:
            place = self._place()
            later = tf.maximum(done - _FREE, 0.0) / (1 - _FREE)
            penalty = tf.reduce_mean(1 - tf.abs(2 * place - 1) ** (_BETA[0] + (_BETA[1] - _BETA[0]) * later))
            soft = tf.reduce_sum(tf.stop_gradient(kernel_gradient) * self._step * place)
            total = soft + tf.where(done > _FREE, _PENALTY, 0.0) * penalty
        return tape.gradient(total, self.logits)

    def harden(self) -> None:
        """Ends it: the kernel holds float weights whose levels are the chosen ones."""
        chosen = (self._low + self._step * tf.round(self._place())).numpy()
        self.weight.variable.assign(self._start)
        wanted = np.asarray(self.weight.quantizer.columns(chosen), np.float64)
        self.weight.quantizer.settle(self.weight.variable, self.weight.variables, wanted)
