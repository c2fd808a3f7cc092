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

from typing import Any, NamedTuple

from keras_dbq.compat import SlicingOpLambda, TFOpLambda, keras, tf
from keras_dbq.network import kernels
from keras_dbq.network.graph import inner

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
    WEIGHTS: kernels.TYPES,
    SUM: (_L.Add, _L.Subtract, _L.Multiply),
    OUTPUT: (_L.AveragePooling2D, _L.GlobalAveragePooling2D, _L.Maximum, _L.Minimum, _L.LeakyReLU),
    JOIN: (_L.Concatenate,),
    SAME_RANGE: (
        _L.MaxPooling2D,
        _L.GlobalMaxPooling2D,
        _L.ZeroPadding2D,
        _L.Cropping2D,
        _L.Reshape,
        _L.Flatten,
        _L.Permute,
        _L.RepeatVector,
    ),
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
_BY_OPERATOR = {
    **dict.fromkeys(("Relu", "Relu6"), RELU),
    **dict.fromkeys(("Softmax", "Sigmoid", "Tanh"), FIXED),
    **dict.fromkeys(("AddV2", "Add", "Sub", "Mul", "AddN", "RealDiv"), SUM),
    **dict.fromkeys(("Mean", "AvgPool", "Maximum", "Minimum", "LeakyRelu"), OUTPUT),
    "ConcatV2": JOIN,
}
# Of Keras' activations by name; swish becomes two integer operators, a table of a sigmoid and a product.
_BY_ACTIVATION = {
    "linear": IDENTITY,
    **dict.fromkeys(("relu", "relu6"), RELU),
    **dict.fromkeys(FIXED_RANGES, FIXED),
    **dict.fromkeys(("swish", "silu", "leaky_relu"), OUTPUT),
}
# x * relu6(x + 3) / 6 and its spellings, which the converter reads as HARD_SWISH.
_HARD_SWISH = ({"Mul", "AddV2", "Relu6"}, {"Mul", "AddV2", "Relu6", "RealDiv"})


class Meaning(NamedTuple):
    """What one call of a layer means for quantization.

    role: see above.  range: (low, high) of a `fixed` role, else None.
    why: of an `unsupported` one what stands in the way, and what to do.
    """

    role: str
    range: tuple[float, float] | None = None
    why: str = ""


def _unsupported(why: str) -> Meaning:
    return Meaning(UNSUPPORTED, why=why)


def activation_name(activation: Any) -> str:
    """The name of a Keras activation function, or of an object that stands for one; "linear" for None."""
    if activation is None:
        return "linear"
    return getattr(activation, "__name__", type(activation).__name__)


def role(node: Any) -> str:
    """Role of one graph node (a call of a layer, which may be wrapped)."""
    return meaning(node).role


def meaning(node: Any) -> Meaning:
    """Role, range and obstacle of one graph node (a call of a layer, which may be wrapped)."""
    layer = inner(node.layer)
    return _traced(node, layer) if is_function_layer(layer) else layer_meaning(layer)


def layer_meaning(layer: keras.layers.Layer) -> Meaning:
    """`meaning` of a layer that is no function layer."""
    if isinstance(layer, _L.InputLayer):
        return Meaning(OUTPUT)
    if hasattr(layer, "quantization_role"):  # a layer of this package says itself what it is
        return Meaning(layer.quantization_role)
    if getattr(layer, "data_format", None) == "channels_first":
        return _unsupported('its data_format is "channels_first"; build the network with channels_last')
    if isinstance(layer, _L.Activation):
        return _activation(activation_name(layer.activation))
    special = {_L.ReLU: _relu, _L.UpSampling2D: _up_sampling, _L.Softmax: _softmax}
    if type(layer) in special:
        return special[type(layer)](layer)
    found = next((name for name, types in _BY_TYPE.items() if type(layer) in types), None)
    return Meaning(found) if found else _unsupported(f"the type {type(layer).__name__} has no integer form; replace it")


def _activation(name: str) -> Meaning:
    if name not in _BY_ACTIVATION:
        return _unsupported(f"the activation {name} has no integer form; use one of {', '.join(_BY_ACTIVATION)}")
    return Meaning(_BY_ACTIVATION[name], FIXED_RANGES.get(name))


def _relu(layer: Any) -> Meaning:
    if layer.threshold or layer.max_value not in (None, 6):
        return _unsupported("a ReLU with this bound or threshold has no integer form; use ReLU() or ReLU(6)")
    if not layer.negative_slope:
        return Meaning(RELU)
    return Meaning(OUTPUT) if layer.max_value is None else _unsupported("a ReLU with slope and bound; use LeakyReLU")


def _up_sampling(layer: Any) -> Meaning:
    if layer.interpolation == "nearest":
        return Meaning(SAME_RANGE)
    return _unsupported(f'interpolation="{layer.interpolation}" has no integer form; use "nearest"')


def _softmax(layer: Any) -> Meaning:
    if layer.axis not in (-1, [-1]):
        return _unsupported("a softmax over another axis than the last has no integer form; permute before")
    return Meaning(FIXED, FIXED_RANGES["softmax"])


def plain_role(layer: keras.layers.Layer) -> str:
    """Role of a layer that is no function layer."""
    return layer_meaning(layer).role


def is_function_layer(layer: keras.layers.Layer) -> bool:
    """A Lambda, or an operator called on Keras tensors."""
    return isinstance(layer, (_L.Lambda, TFOpLambda, SlicingOpLambda))


def _traced(node: Any, layer: Any) -> Meaning:
    """Meaning of a Lambda or an operator called on Keras tensors: traced, then judged by its TensorFlow operators."""
    try:
        operators = _operators(node, layer)
    except Exception as error:  # whatever the user's function raises
        return _unsupported(f"its function cannot be traced ({type(error).__name__}); replace it by Keras layers")
    work = [o for o in operators if any(t.dtype.is_floating for t in o.outputs) and o.type not in _COPYING_OPS]
    if not work:
        return Meaning(SAME_RANGE)
    kinds = [operator.type for operator in work]
    if len(work) == 1 and kinds[0] in _BY_OPERATOR:
        return Meaning(_BY_OPERATOR[kinds[0]], FIXED_RANGES.get(kinds[0].lower()))
    if _inner_ranges_are_known(kinds) or (set(kinds) in _HARD_SWISH and len(kinds) == 4):
        return Meaning(OUTPUT)
    listed = ", ".join(dict.fromkeys(kinds))
    return _unsupported(
        f"one function computes {listed}; write it as Keras layers, or as one operator on tensors after another"
    )


def _inner_ranges_are_known(kinds: list[str]) -> bool:
    """Whether all operators but the last have a fixed range, as in x * sigmoid(x)."""
    *first, last = kinds
    return all(_BY_OPERATOR.get(k) == FIXED for k in first) and _BY_OPERATOR.get(last) in (SUM, OUTPUT)


def _operators(node: Any, layer: Any) -> list[Any]:
    """The TensorFlow operators of a function layer's call."""
    tensors = tf.nest.flatten(node.keras_inputs)
    specs = [tf.TensorSpec(t.shape, t.dtype) for t in tensors]

    def call(*values: Any) -> Any:
        table = {id(t): v for t, v in zip(tensors, values, strict=True)}
        args, kwargs = tf.nest.map_structure(lambda v: table.get(id(v), v), (node.call_args, node.call_kwargs))
        return layer.call(*args, **kwargs)

    return tf.function(call).get_concrete_function(*specs).graph.get_operations()


def fused_activation(layer: keras.layers.Layer) -> bool:
    """Whether the layer's own activation fuses into its kernel in TFLite."""
    return activation_name(getattr(layer, "activation", None)) in _FUSED_ACTIVATIONS


def unsigned_output(layer: keras.layers.Layer) -> bool:
    """Whether the layer's output is never negative because it ends in a ReLU or ReLU6."""
    if isinstance(layer, _L.ReLU):
        return not layer.negative_slope and not layer.threshold
    return activation_name(getattr(layer, "activation", None)) in ("relu", "relu6")
