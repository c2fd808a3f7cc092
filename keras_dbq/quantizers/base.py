"""What quantizers share: their variables, and a kernel seen as columns of channels.

A quantizer acts on one tensor, given to it, with variables that it built. It knows neither the layer nor the graph that
it stands in: where it is placed, what is frozen there and how the layer's bias is rounded are facts of `wrapping/`.
"""

import inspect
from typing import Any, NamedTuple

import numpy as np

from keras_dbq import _checks
from keras_dbq.compat import Quantizer, keras, register, tf
from keras_dbq.ops.weight_levels import WeightLevels

Variables = dict[str, tf.Variable]
# choice: how far inside of its threshold `settle` puts a weight, of the way to the level.
INSIDE = 0.05


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


@register
class IntervalConstraint(keras.constraints.Constraint):
    """Keeps a variable in [low, high] (projection, so that no gradient dies)."""

    def __init__(self, low: float, high: float):
        self.low, self.high = float(low), float(high)

    def __call__(self, values: Any) -> Any:
        return tf.clip_by_value(values, self.low, self.high)

    def get_config(self) -> dict[str, float]:
        return {"low": self.low, "high": self.high}


def add_variable(
    layer: keras.layers.Layer, name: str, value: Any, trainable: bool = False, constraint: Any = None
) -> tf.Variable:
    """A float32 variable of the shape of `value`, which it starts with; never cast in mixed precision.

    Under a strategy every replica writes the same value (the optimizer adds up gradients, ranges follow the extremes of
    the whole batch), so nothing is aggregated.
    """
    return layer.add_weight(
        name=name,
        shape=np.shape(value),
        dtype=tf.float32,
        initializer=keras.initializers.Constant(value),
        trainable=trainable,
        constraint=constraint,
        experimental_autocast=False,
    )


class ConfiguredQuantizer(Quantizer):
    """A quantizer whose config is the arguments of its constructor, each kept in an attribute of its name."""

    # Parts of it that do not train, among `parts` (set by `keras_dbq.freeze`).
    frozen: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    # While True the tensor passes through unchanged.
    bypass = False

    def _frozen(self, frozen: Any) -> tuple[str, ...]:
        return tuple(_checks.one_of("frozen", part, self.parts) for part in frozen)

    def describe(self) -> str:
        """How the tensor is quantized, in a phrase."""
        return type(self).__name__

    def get_config(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


class WeightQuantizer(ConfiguredQuantizer):
    """A kernel seen as columns [K, M], per channel or (M = 1) per tensor.

    A new one defines `build`, `quantize`, and for export `integer_weights`; where it has something to fit, `fits` and
    `fit` as well.
    """

    per_channel = True
    depthwise = False  # the kernel is (h, w, C, multiplier), its channels are the last two axes
    parts = ("weights", "scales")
    branches = 0  # ternary branches of a weight, if that is what it is
    bits = 0  # of a linear grid, if that is what it is
    # The layer that holds the weights adds its bias on the grid of its accumulator, of steps of `unit`.
    round_bias = False
    # Ways in which `initialize` can choose what it fits; the first one is the usual one.
    fits: tuple[str, ...] = ()
    # While True the forward pass of training is used also with training=False (training with fixed statistics).
    training_forward = False
    # While set, to a number or a variable, the forward pass of training takes the curve of that sharpness; see `soft`.
    sharpness: Any = None

    @property
    def levels(self) -> WeightLevels | None:
        """Those of each column; the quantizer then has `neighbours`, `settle`, `assign`. None: codes follow a rule."""
        return None

    @property
    def few_levels(self) -> bool:
        """Whether the levels are so few that it is worth training which one a weight has."""
        return False

    def neighbours(self, kernel: np.ndarray, variables: Variables) -> tuple[np.ndarray, np.ndarray]:
        """The levels below and above each weight, float64 [K, M]; the same one where a weight has no choice."""
        raise NotImplementedError

    def settle(self, kernel: tf.Variable, variables: Variables, wanted: np.ndarray) -> None:
        """Gives each weight the level nearest to `wanted` [K, M], and moves it no further than that asks.

        choice: training that goes on from here still knows which weights are near to a threshold, and may move their
        codes back (measured in examples/two_step).
        """
        raise NotImplementedError

    def assign(self, kernel: tf.Variable, variables: Variables, codes: np.ndarray, scales: np.ndarray) -> None:
        """Makes the quantized kernel that of given codes and scales of `levels`; see `settle`.

        Args:
          kernel: the float variable.  codes: int8 [B, K, M].  scales: float64 [B, M], positive.
        """
        raise NotImplementedError

    def quantize(self, columns: tf.Tensor, training: Any, variables: Variables) -> tf.Tensor:
        """The quantized columns of float32 columns [K, M], with a gradient."""
        raise NotImplementedError

    def soft(self, columns: tf.Tensor, variables: Variables, sharpness: Any) -> tf.Tensor:
        """Columns [K, M] on a curve with a sigmoid for every step between two of `levels`, with its own gradient.

        Args:
          sharpness: scalar, steepness of the sigmoids in units of 1 / (gap of two levels).
        """
        raise NotImplementedError

    def __call__(self, inputs: Any, training: Any, weights: Variables, **kwargs: Any) -> Any:
        if self.bypass:
            return inputs
        columns = tf.cast(self.columns(inputs), tf.float32)
        if self.sharpness is not None and (training or self.training_forward):
            quantized = self.soft(columns, weights, tf.convert_to_tensor(self.sharpness))
        else:
            quantized = self.quantize(columns, training, weights)
        return tf.cast(tf.reshape(quantized, tf.shape(inputs)), inputs.dtype)

    def initialize(self, kernel: np.ndarray, variables: Variables, fit: str | None = None) -> float:
        """Fits the variables to the float kernel.

        Args:
          kernel: float32, the layer's kernel.
          variables: what `build` made.
          fit: one of `fits`; None for the first.

        Returns:
          the relative squared error ||w - w_q||^2 / ||w||^2; 0 for a kernel of zeros.

        Raises:
          ValueError: this quantizer has no such way to fit.
        """
        if fit is not None or self.fits:
            self.fit(kernel, variables, _checks.one_of("fit", fit or self.fits[0], self.fits))
        quantized = self(tf.constant(kernel, tf.float32), False, variables).numpy()
        power = float(np.sum(np.square(kernel, dtype=np.float64)))
        return float(np.sum(np.square(kernel - quantized, dtype=np.float64)) / power) if power else 0.0

    def fit(self, kernel: np.ndarray, variables: Variables, way: str) -> None:
        """Assigns the variables; `way` is one of `fits`."""
        raise NotImplementedError

    def integer_weights(self, kernel: np.ndarray, variables: Variables) -> IntegerWeights:
        """The kernel as it will stand in the file.

        Raises:
          ValueError: this quantizer has no integer form.
        """
        raise ValueError(
            f"{type(self).__name__}: expected a quantizer with an integer form, got one without; define "
            "integer_weights(kernel, variables), or give the layer another quantizer"
        )

    def columns(self, kernel: Any) -> Any:
        """Kernel -> [K, M]; works on numpy arrays and tensors."""
        reshape = np.reshape if isinstance(kernel, np.ndarray) else tf.reshape
        return reshape(kernel, [-1, self.channels(kernel.shape)])

    def channels(self, shape: Any) -> int:
        """M for a kernel of that shape: sets of parameters."""
        return self.output_channels(shape) if self.per_channel else 1

    def output_channels(self, shape: Any) -> int:
        """Output channels of a kernel of that shape, whatever `per_channel` is."""
        return int(shape[-1] * shape[-2]) if self.depthwise else int(shape[-1])
