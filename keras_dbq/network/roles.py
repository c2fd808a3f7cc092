"""What each Keras layer means for quantization: the support matrix as code.

A role says how the layer's output relates to the integer file:
  weights      has a kernel; its output can fuse a following batch norm and ReLU
  sum          Add, Subtract, Multiply: can fuse a following ReLU
  output       its output gets a range of its own
  join         Concatenate: one range for the output, which inputs that go nowhere else share
  same_range   moves or selects values (pooling by maximum, padding with zeros, reshape): no new range
  fixed        its output range is known (softmax, sigmoid)
  fold         BatchNormalization: folded into the weights layer before it
  relu         ReLU or ReLU6: fused into the layer before it where that feeds nothing else
  identity     nothing happens at inference (Dropout)
  unsupported  no integer form
"""

from typing import Any

from keras_dbq.compat import keras, tf
from keras_dbq.wrapping.layers import QuantizeTensor

_L = keras.layers

WEIGHTS, SUM, OUTPUT, JOIN = "weights", "sum", "output", "join"
SAME_RANGE, FIXED, FOLD, RELU, IDENTITY, UNSUPPORTED = (
    "same_range",
    "fixed",
    "fold",
    "relu",
    "identity",
    "unsupported",
)

_BY_TYPE: dict[str, tuple[type, ...]] = {
    WEIGHTS: (_L.Conv2D, _L.DepthwiseConv2D, _L.Dense),
    SUM: (_L.Add, _L.Subtract, _L.Multiply),
    OUTPUT: (_L.AveragePooling2D, _L.GlobalAveragePooling2D, _L.Average, _L.Maximum, _L.Minimum, _L.LeakyReLU),
    JOIN: (_L.Concatenate,),
    SAME_RANGE: (
        _L.MaxPooling2D,
        _L.GlobalMaxPooling2D,
        _L.ZeroPadding2D,
        _L.Cropping2D,
        _L.Reshape,
        _L.Flatten,
        _L.Permute,
        _L.UpSampling2D,
        _L.RepeatVector,
    ),
    FIXED: (_L.Softmax,),
    FOLD: (_L.BatchNormalization,),
    IDENTITY: (
        _L.Dropout,
        _L.SpatialDropout2D,
        _L.GaussianNoise,
        _L.GaussianDropout,
        _L.AlphaDropout,
        _L.ActivityRegularization,
    ),
}
# Channel by channel, and f(s x) = s f(x) for a factor s > 0 per channel; ReLU, too, is (see its own role).
HOMOGENEOUS = (
    _L.ZeroPadding2D,
    _L.Cropping2D,
    _L.MaxPooling2D,
    _L.AveragePooling2D,
    _L.GlobalAveragePooling2D,
    _L.GlobalMaxPooling2D,
    _L.UpSampling2D,
    _L.Dropout,
    _L.SpatialDropout2D,
)
# Softmax and sigmoid write codes of 1/256 from -128 in TFLite, tanh codes of 1/128 around 0.
FIXED_RANGES = {"softmax": (0.0, 255 / 256), "sigmoid": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128)}
_FUSED_ACTIVATIONS = ("linear", "relu", "relu6")

# TensorFlow operators that copy values; a function layer made only of them keeps its input's range.
_COPYING_OPS = frozenset(
    "Identity StridedSlice Slice Pad PadV2 Reshape Transpose Squeeze ExpandDims Split SplitV Unpack MaxPool "
    "DepthToSpace SpaceToDepth Tile GatherV2 ResizeNearestNeighbor ReverseV2 "
    "Const Shape Pack Placeholder NoOp".split()
)
_UNARY = {"Relu": RELU, "Relu6": RELU, "Softmax": FIXED, "Sigmoid": FIXED, "Tanh": FIXED}
_ELEMENTWISE = {
    "AddV2": SUM,
    "Add": SUM,
    "Sub": SUM,
    "Mul": SUM,
    "AddN": SUM,
    "Mean": OUTPUT,
    "AvgPool": OUTPUT,
    "Maximum": OUTPUT,
    "Minimum": OUTPUT,
    "LeakyRelu": OUTPUT,
    "ConcatV2": JOIN,
    "RealDiv": SUM,
}


def activation_name(activation: Any) -> str:
    """The name of a Keras activation function, or of an object that stands for one."""
    return getattr(activation, "__name__", type(activation).__name__)


def role(node: Any) -> str:
    """Role of one graph node (a call of a layer)."""
    return _function_role(node) if is_function_layer(node.layer) else plain_role(node.layer)


def plain_role(layer: keras.layers.Layer) -> str:
    """Role of a layer that is no function layer; see `role`."""
    if isinstance(layer, (_L.InputLayer, QuantizeTensor)):
        return OUTPUT
    if isinstance(layer, _L.Activation):
        return _activation_role(activation_name(layer.activation))
    if isinstance(layer, _L.ReLU):
        plain = not layer.negative_slope and not layer.threshold and layer.max_value in (None, 6, 6.0)
        return RELU if plain else OUTPUT
    if isinstance(layer, _L.UpSampling2D) and layer.interpolation != "nearest":
        return OUTPUT
    for name, types in _BY_TYPE.items():
        if type(layer) in types:
            return name
    return UNSUPPORTED


def is_kernel_layer(layer: keras.layers.Layer) -> bool:
    """Conv2D, DepthwiseConv2D or Dense itself (a subclass means something else)."""
    return type(layer) in _BY_TYPE[WEIGHTS]


def is_function_layer(layer: keras.layers.Layer) -> bool:
    """A Lambda, or an operator called on Keras tensors."""
    return isinstance(layer, (_L.Lambda, *_function_layers()))


def _function_layers() -> tuple[type, ...]:
    from tf_keras.src.layers.core.tf_op_layer import SlicingOpLambda, TFOpLambda

    return SlicingOpLambda, TFOpLambda


def _activation_role(name: str) -> str:
    if name == "linear":
        return IDENTITY
    if name in ("relu", "relu6"):
        return RELU
    if name in FIXED_RANGES:
        return FIXED
    return OUTPUT if name in ("swish", "silu", "hard_sigmoid", "elu", "gelu", "leaky_relu") else UNSUPPORTED


def _function_role(node: Any) -> str:
    """Role of a Lambda or of an operator called on Keras tensors: traced, then judged by its TensorFlow operators."""
    tensors = [t for t in tf.nest.flatten(node.keras_inputs)]
    specs = [tf.TensorSpec(t.shape, t.dtype) for t in tensors]

    def call(*values: Any) -> Any:
        table = {id(t): v for t, v in zip(tensors, values, strict=True)}
        args, kwargs = tf.nest.map_structure(lambda v: table.get(id(v), v), (node.call_args, node.call_kwargs))
        return node.layer.call(*args, **kwargs)

    try:
        operators = tf.function(call).get_concrete_function(*specs).graph.get_operations()
    except Exception:  # a function that cannot be traced has no integer form either
        return UNSUPPORTED
    floating = {op.type for op in operators if any(t.dtype.is_floating for t in op.outputs)}
    work = floating - _COPYING_OPS
    if not work:
        return SAME_RANGE
    if len(work) == 1:
        kind = next(iter(work))
        if kind in _UNARY:
            return _UNARY[kind]
        if kind in _ELEMENTWISE:
            return _ELEMENTWISE[kind]
    return OUTPUT if work <= set(_ELEMENTWISE) | set(_UNARY) else UNSUPPORTED


def fixed_range(layer: keras.layers.Layer) -> tuple[float, float]:
    """The known output range of a `fixed` layer."""
    if isinstance(layer, _L.Activation):
        return FIXED_RANGES[activation_name(layer.activation)]
    function = getattr(layer, "function", None)
    return FIXED_RANGES.get(getattr(function, "__name__", "softmax"), FIXED_RANGES["softmax"])


def fused_activation(layer: keras.layers.Layer) -> bool:
    """Whether the layer's own activation fuses into its kernel in TFLite."""
    return activation_name(getattr(layer, "activation", None) or keras.activations.linear) in _FUSED_ACTIVATIONS


def unsigned_output(layer: keras.layers.Layer) -> bool:
    """Whether the layer's output is never negative because it ends in a ReLU or ReLU6."""
    if isinstance(layer, _L.ReLU):
        return not layer.negative_slope and not layer.threshold
    activation = getattr(layer, "activation", None)
    return activation is not None and activation_name(activation) in ("relu", "relu6")
