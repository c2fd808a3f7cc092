"""Adam whose steps are in units of what each variable is made of.

Adam's step has the size of the learning rate, whatever the gradient's. Kernels with a folded batch norm differ from
channel to channel by orders of magnitude, so one rate cannot suit them all. choice: a step of a kernel is the rate
times its channel's standard deviation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.network import kernels
from keras_dbq.wrapping import wrappers


class ScaledAdam(keras.optimizers.Adam):
    """Keras' Adam (Kingma and Ba, ICLR 2015) with a unit for each number that it moves.

    Args:
      variables: what it moves.
      units: float32 arrays, broadcast to the variables' shapes; with units of 1 it is Adam.
      learning_rate: in units.
    """

    def __init__(self, variables: list[tf.Variable], units: list[np.ndarray], learning_rate: float):
        super().__init__(learning_rate, epsilon=1e-12, jit_compile=False)
        self.build(variables)
        pairs = zip(variables, units, strict=True)
        self._units = {self._var_key(variable): tf.constant(unit, variable.dtype) for variable, unit in pairs}

    def update_step(self, gradient: Any, variable: Any) -> None:
        """One step of one variable, as in Keras' Adam but for the unit."""
        key = self._var_key(variable)
        first, second = (moments[self._index_dict[key]] for moments in (self._momentums, self._velocities))
        step = tf.cast(self.iterations + 1, variable.dtype)
        correction = tf.sqrt(1 - self.beta_2**step) / (1 - self.beta_1**step)
        rate = correction * tf.cast(self.learning_rate, variable.dtype)
        first.assign_add((gradient - first) * (1 - self.beta_1))
        second.assign_add((tf.square(gradient) - second) * (1 - self.beta_2))
        variable.assign_sub(rate * self._units[key] * first / (tf.sqrt(second) + self.epsilon))


def units(layers: list[keras.layers.Layer], variables: list[tf.Variable]) -> list[np.ndarray]:
    """The unit of each variable: for a kernel its channels' deviations, for a bias what the channel gives for inputs of
    deviation 1; 0.1 for everything else (scales and thresholds, which are in such units already).
    """
    found: dict[int, np.ndarray] = {}
    for layer in layers:
        inner = wrappers.inner(layer)
        for weight in wrappers.quantized_weights(layer):
            columns = kernels.columns(inner, weight.variable.numpy())
            deviation = np.maximum(columns.std(0), 1e-6 * max(float(columns.std()), 1e-12))
            found[id(weight.variable)] = deviation.reshape(kernels.channel_shape(inner, weight.variable.shape))
            bias = wrappers.bias(layer)
            if bias is not None:
                found[id(bias)] = deviation * np.sqrt(len(columns))
    return [found.get(id(variable), np.array(0.1, np.float32)) for variable in variables]
