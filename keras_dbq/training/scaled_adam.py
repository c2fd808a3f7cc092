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


class ScaledAdam:
    """Adam (Kingma and Ba, ICLR 2015) with a unit for each number that it moves.

    Args:
      variables: what it moves; constraints of theirs hold.
      units: float32 arrays, broadcast to the variables' shapes.
    """

    def __init__(self, variables: list[tf.Variable], units: list[np.ndarray]):
        self.variables, self.units = variables, [tf.constant(unit, tf.float32) for unit in units]
        self.first, self.second = ([tf.Variable(tf.zeros(v.shape)) for v in variables] for _ in range(2))
        self.steps = tf.Variable(0.0)

    def apply(self, gradients: list[Any], rate: Any, decay: tuple[float, float] = (0.9, 0.999)) -> None:
        """One step; None for a gradient leaves its variable."""
        self.steps.assign_add(1.0)
        correction = tf.sqrt(1 - decay[1] ** self.steps) / (1 - decay[0] ** self.steps)
        places = zip(self.variables, self.units, self.first, self.second, gradients, strict=True)
        for variable, unit, first, second, gradient in places:
            if gradient is None:
                continue
            first.assign(decay[0] * first + (1 - decay[0]) * gradient)
            second.assign(decay[1] * second + (1 - decay[1]) * tf.square(gradient))
            new = variable - rate * correction * unit * first / (tf.sqrt(second) + 1e-12)
            constraint = getattr(variable, "constraint", None)
            variable.assign(new if constraint is None else constraint(new))


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
