"""What weight quantizers share: columns of channels, freezing, and the place of their variables on the wrapper."""

from typing import Any, NamedTuple

import numpy as np

from keras_dbq.compat import Quantizer, keras, register, tf

Variables = dict[str, tf.Variable]


class IntegerWeights(NamedTuple):
    """A weight tensor as it will stand in the file: weight = values * scale.

    values: int8, in the Keras variable's own shape.
    scale: float32 [M], per output channel (depthwise (h, w, C, D): C * D channels, D fastest).
    branches: ternary branches that the quantizer used; 0 for a linear grid.
    bits: 8, or fewer, of a linear grid; 0 for ternary branches.
    """

    values: np.ndarray
    scale: np.ndarray
    branches: int
    bits: int


def adopt_inner_weights(wrapper: keras.layers.Layer) -> None:
    """Lists the inner layer's variables before the quantizer's, as tfmot does for a layer that is built already.

    When a model is loaded the inner layer is built later, and without this the order of the weights, and so what a
    file or the optimizer's saved state means, would differ.
    """
    known = {id(v) for v in wrapper._trainable_weights}
    inner = getattr(wrapper, "layer", None)
    for variable in inner.trainable_weights if inner is not None else []:
        if id(variable) not in known:
            wrapper._trainable_weights.append(variable)


@register
class IntervalConstraint(keras.constraints.Constraint):
    """Keeps a variable in [low, high] (projection, so that no gradient dies)."""

    def __init__(self, low: float, high: float):
        self.low, self.high = float(low), float(high)

    def __call__(self, values: Any) -> Any:
        return tf.clip_by_value(values, self.low, self.high)

    def get_config(self) -> dict[str, float]:
        return {"low": self.low, "high": self.high}


class WeightQuantizer(Quantizer):
    """Shared by weight quantizers: a kernel seen as columns [K, M], per channel or (M = 1) per tensor."""

    per_channel: bool
    depthwise: bool
    # While True the tensor passes through unchanged (calibration on the float weights).
    bypass = False
    # While True the forward pass of training is used also with training=False (training with fixed statistics).
    training_forward = False
    _wrapper: Any = None  # weak reference to the wrapper that owns the variables
    _unfrozen: Any = None  # lists of weights before anything was frozen
    matched_bias: Any = None  # the layer's bias before and after `calibration.match_outputs`

    def _channels(self, shape: Any) -> int:
        return self._output_channels(shape) if self.per_channel else 1

    def _output_channels(self, shape: Any) -> int:
        return int(shape[-1] * shape[-2]) if self.depthwise else int(shape[-1])

    def _reconstruction_error(self, kernel: np.ndarray, variables: Variables) -> float:
        """Relative squared error ||w - w_q||^2 / ||w||^2; 0 for a kernel of zeros."""
        quantized = self(tf.constant(kernel, tf.float32), False, variables).numpy()
        power = float(np.sum(np.square(kernel, dtype=np.float64)))
        return float(np.sum(np.square(kernel - quantized, dtype=np.float64)) / power) if power else 0.0

    def apply_freeze(self, wrapper: keras.layers.Layer, kernel: tf.Variable, variables: Variables) -> None:
        """Moves frozen variables from the trainable to the non-trainable weights of the wrapper and its layer.

        Works from the lists as they were before any freezing, so that the order of weights, and with it saved files,
        depends on what is frozen and not on when it was. (`layer.trainable = False` cannot be used: tfmot's wrapper
        keeps a list of its own.)
        """
        lists = [
            (wrapper._trainable_weights, wrapper._non_trainable_weights),
            (wrapper.layer._trainable_weights, wrapper.layer._non_trainable_weights),
        ]
        if self._unfrozen is None:
            self._unfrozen = [(list(trainable), list(fixed)) for trainable, fixed in lists]
        frozen = {id(kernel), *(id(v) for v in self._unfrozen[1][0])} if "weights" in self.frozen else set()
        if "scales" in self.frozen:
            frozen |= {id(v) for v in variables.values()}
        # A frozen bias is listed by the inner layer alone (h5 takes no name twice), the kernel by the wrapper alone.
        owned = (
            {id(kernel), *(id(v) for v in variables.values())},
            {id(v) for v in self._unfrozen[1][0]} - {id(kernel)},
        )
        for (trainable, fixed), (was_trainable, was_fixed), own in zip(lists, self._unfrozen, owned, strict=True):
            moved = {id(v): v for v in was_trainable if id(v) in frozen}
            trainable[:] = [v for v in was_trainable if id(v) not in frozen]
            fixed[:] = was_fixed + [v for key, v in moved.items() if key in own]
            for variable in moved.values():
                variable._trainable = False  # loading a .keras file sorts the variables again, by this

    def quantizer_lists(self) -> Any:
        """(trainable, other) weights of the wrapper as they were before anything was frozen, or None."""
        return self._unfrozen[0] if self._unfrozen is not None else None

    def _refreeze(self, kernel: Any, variables: Variables) -> None:
        """After loading: what the config says is frozen is frozen at the first call, when all variables exist."""
        wrapper = self._wrapper() if self._wrapper is not None else None
        if self.frozen and self._unfrozen is None and wrapper is not None and isinstance(kernel, tf.Variable):
            self.apply_freeze(wrapper, kernel, variables)

    def columns(self, kernel: Any) -> Any:
        """Kernel -> [K, M]; works on numpy arrays and tensors."""
        reshape = np.reshape if isinstance(kernel, np.ndarray) else tf.reshape
        return reshape(kernel, [-1, self._channels(kernel.shape)])
