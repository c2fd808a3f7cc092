"""What each Keras layer means for quantization: the support matrix as code.

A role says how the layer's output relates to the integer file:
  weights      has a kernel; its output can fuse a following batch norm and ReLU
  sum          Add, Subtract, Multiply: can fuse a following ReLU
  output       its output gets a range of its own
  join         Concatenate: one range for the output, which inputs that go nowhere else share
  same_range   moves or selects values (pooling by maximum, padding with zeros, reshape): no new range
  fixed        its output range is known (softmax, sigmoid)
  table        a function of one number (GELU, hard sigmoid, a bounded ReLU): in the file a table of 256 codes
  fold         BatchNormalization: folded into the weights layer before it
  relu         ReLU or ReLU6: fused into the layer before it where that feeds nothing else
  identity     nothing happens at inference (Dropout)
  unsupported  no integer form
"""

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from keras_dbq.compat import FUNCTION_LAYERS, keras, tf
from keras_dbq.network import kernels, tracing, vectors
from keras_dbq.network.graph import inner

_L = keras.layers

WEIGHTS, SUM, OUTPUT, JOIN = "weights", "sum", "output", "join"
SAME_RANGE, FIXED, TABLE, FOLD, RELU, IDENTITY, UNSUPPORTED = (
    "same_range",
    "fixed",
    "table",
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
    TABLE: (_L.ELU, _L.ThresholdedReLU),
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
        *(_L.Dropout, _L.SpatialDropout1D, _L.SpatialDropout2D, _L.SpatialDropout3D, _L.GaussianNoise),
        *(_L.GaussianDropout, _L.AlphaDropout, _L.ActivityRegularization, _L.RandomFlip, _L.RandomRotation),
        *(_L.RandomZoom, _L.RandomTranslation, _L.RandomContrast, _L.RandomBrightness),
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
# Softmax and sigmoid write codes of 1/256 from -128 in TFLite, tanh and L2 normalisation codes of 1/128 around 0.
_UNIT = (-1.0, 127 / 128)
FIXED_RANGES = {"softmax": (0.0, 255 / 256), "sigmoid": (0.0, 255 / 256), "tanh": _UNIT}
_NEVER_NEGATIVE = ("relu", "relu6", "hard_sigmoid", "softplus", "exponential")
_RELUS = ("relu", "relu6")
_FUSED_ACTIVATIONS = ("linear", *_RELUS)

# TensorFlow operators that copy values; a function layer made only of them keeps its input's range.
_COPYING_OPS = frozenset(
    "Identity StridedSlice Slice Pad PadV2 Reshape Transpose Squeeze ExpandDims Split SplitV Unpack MaxPool Max Min "
    "DepthToSpace SpaceToDepth Tile GatherV2 ResizeNearestNeighbor ReverseV2 "
    "Cast Const Shape Placeholder NoOp".split()
)
_BY_OPERATOR = {
    **dict.fromkeys(("Relu", "Relu6"), RELU),
    **dict.fromkeys(("Softmax", "Sigmoid", "Tanh"), FIXED),
    **dict.fromkeys(("AddV2", "Add", "Sub", "Mul", "RealDiv"), SUM),
    **dict.fromkeys(("Mean", "AvgPool", "Maximum", "Minimum", "LeakyRelu", "ResizeBilinear", "BatchMatMulV2"), OUTPUT),
    **dict.fromkeys(("ConcatV2", "Pack"), JOIN),
}
# Of Keras' activations by name; swish becomes two integer operators, a table of a sigmoid and a product.
_BY_ACTIVATION = {
    "linear": IDENTITY,
    **dict.fromkeys(("relu", "relu6"), RELU),
    **dict.fromkeys(FIXED_RANGES, FIXED),
    **dict.fromkeys(("swish", "silu", "leaky_relu"), OUTPUT),
    **dict.fromkeys(("elu", "exponential", "gelu", "hard_sigmoid", "mish", "selu", "softplus", "softsign"), TABLE),
}
# By the names of types, for those that people meet.
_ADVICE = {
    **dict.fromkeys(("LayerNormalization", "GroupNormalization"), "use BatchNormalization"),
    **dict.fromkeys(("RandomHeight", "RandomWidth", "RandomCrop"), "move it to the data pipeline"),
    "Masking": "give every example the same length",
}
# x * relu6(x + 3) / 6 and its spellings, which the converter reads as HARD_SWISH.
_HARD_SWISH = ({"Mul", "AddV2", "Relu6"}, {"Mul", "AddV2", "Relu6", "RealDiv"})


class Meaning(NamedTuple):
    """What one call of a layer means for quantization.

    role: see above.  range: (low, high) of a `fixed` role, else None.
    why, advice: of an `unsupported` one what stands in the way, and what to do.
    fatal: an `unsupported` one that the converter cannot write in float either.
    """

    role: str
    range: tuple[float, float] | None = None
    why: str = ""
    advice: str = ""
    fatal: bool = False


def _unsupported(why: str, advice: str, fatal: bool = False) -> Meaning:
    return Meaning(UNSUPPORTED, why=why, advice=advice, fatal=fatal)


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
    if is_function_layer(layer):
        return _traced(node)
    found = layer_meaning(layer)
    if found.role == UNSUPPORTED and counts_by_operators(layer):
        traced = _traced(node)
        return found if traced.role == UNSUPPORTED and not isinstance(layer, _L.UnitNormalization) else traced
    return found


def counts_by_operators(layer: keras.layers.Layer) -> bool:
    """Whether a layer of no known type is what the operators that it calls are: one without weights is."""
    known = layer.weights or hasattr(layer, "data_format") or type(layer).__name__ in _ADVICE
    return is_function_layer(layer) or not known


def layer_meaning(layer: keras.layers.Layer) -> Meaning:
    """`meaning` of a layer by its type and options alone, without a look at what it computes."""
    if isinstance(layer, _L.InputLayer):
        return Meaning(OUTPUT)
    if hasattr(layer, "quantization_role"):  # a layer of this package says itself what it is
        return Meaning(layer.quantization_role)
    if getattr(layer, "data_format", None) == "channels_first":
        return _unsupported('its data_format is "channels_first"', "build the network with channels_last")
    if isinstance(layer, _L.Activation):
        return _activation(activation_name(layer.activation))
    special = {_L.ReLU: _relu, _L.UpSampling2D: _up_sampling, _L.Resizing: _resizing, _L.Softmax: _softmax}
    if type(layer) in special:
        return special[type(layer)](layer)
    found = next((name for name, types in _BY_TYPE.items() if type(layer) in types), None)
    return Meaning(found) if found else _of_no_known_type(layer)


def _of_no_known_type(layer: Any) -> Meaning:
    name = type(layer).__name__
    why, advice = f"the type {name} has no integer form", _ADVICE.get(name, "replace it by other layers")
    cell = layer.forward_layer if isinstance(layer, _L.Bidirectional) else layer
    if isinstance(cell, _L.RNN) and not cell.unroll:  # a loop in the file, which the converter does not write
        return _unsupported(f"{why}, and loops have no form in the file", f"{advice}, or set unroll=True", fatal=True)
    return _unsupported(why, advice)


def _activation(name: str) -> Meaning:
    if name not in _BY_ACTIVATION:
        return _unsupported(f"the activation {name} has no integer form", f"use one of {', '.join(_BY_ACTIVATION)}")
    return Meaning(_BY_ACTIVATION[name], FIXED_RANGES.get(name))


def _relu(layer: Any) -> Meaning:
    if layer.threshold or layer.max_value not in (None, 6):
        return Meaning(TABLE)
    if not layer.negative_slope:
        return Meaning(RELU)
    return Meaning(OUTPUT if layer.max_value is None else TABLE)


def _up_sampling(layer: Any) -> Meaning:
    return _resized(layer.interpolation)


def _resizing(layer: Any) -> Meaning:
    if layer.crop_to_aspect_ratio:
        return _unsupported("crop_to_aspect_ratio has no integer form", "crop and resize in the data pipeline")
    return _resized(layer.interpolation)


def _resized(interpolation: str) -> Meaning:
    roles_ = {"nearest": SAME_RANGE, "bilinear": OUTPUT}
    if interpolation in roles_:
        return Meaning(roles_[interpolation])
    why = f'interpolation="{interpolation}" has no integer form'
    return _unsupported(why, 'use "nearest" or "bilinear"', fatal=True)


def _softmax(layer: Any) -> Meaning:
    if layer.axis not in (-1, [-1]):
        return _unsupported("a softmax over another axis than the last has no integer form", "permute before it")
    return Meaning(FIXED, FIXED_RANGES["softmax"])


def plain_role(layer: keras.layers.Layer) -> str:
    """Role of a layer that is no function layer."""
    return layer_meaning(layer).role


def is_function_layer(layer: keras.layers.Layer) -> bool:
    """A Lambda, or an operator called on Keras tensors."""
    return isinstance(layer, FUNCTION_LAYERS)


def takes_wrapper(layer: keras.layers.Layer) -> bool:
    """Whether tfmot's wrapper can stand around a layer: it takes no function layers, and one argument of tensors."""
    if is_function_layer(layer):
        return False
    calls = [(*node.call_args, *node.call_kwargs.values()) for node in layer.inbound_nodes]
    return all(sum(map(_holds_tensors, arguments)) == 1 for arguments in calls)


def _holds_tensors(argument: Any) -> bool:
    return any(hasattr(value, "_keras_history") for value in tf.nest.flatten(argument))


# Of function layers, by their calls: what they compute does not change, and tracing is slow.
_KNOWN: WeakKeyDictionary[Any, Meaning] = WeakKeyDictionary()


def _traced(node: Any) -> Meaning:
    """Meaning of a Lambda or an operator called on Keras tensors: traced, then judged by its TensorFlow operators."""
    if node not in _KNOWN:
        _KNOWN[node] = _judged(node)
    return _KNOWN[node]


def _judged(node: Any) -> Meaning:
    try:
        operators = tracing.operators(node)
    except Exception as error:  # whatever the user's function raises
        why = f"its function cannot be traced ({type(error).__name__})"
        return _unsupported(why, "replace it by Keras layers")
    work = [o for o in operators if any(t.dtype.is_floating for t in o.outputs) and o.type not in _COPYING_OPS]
    kinds = [operator.type for operator in work]
    if vectors.NORMALIZATION.issuperset(kinds) and "Rsqrt" in kinds and "Sum" in kinds:
        return _normalization(work)
    if vectors.why_no_product(work):
        return _unsupported(vectors.why_no_product(work), "use a Dense or convolution layer")
    known = _of_kinds(kinds)
    if known is not None and not _divides_by_a_tensor(work):
        return known
    if tracing.is_by_number(operators):
        return Meaning(TABLE)
    what = f"one function computes {', '.join(dict.fromkeys(kinds))}"
    return _unsupported(what, "write it as Keras layers, or as one operator on tensors after another")


def _normalization(work: list[Any]) -> Meaning:
    if vectors.normalizes(work):
        return Meaning(FIXED, _UNIT)
    why = f"an L2 normalisation over other axes than the last, or with an epsilon over {vectors.LARGEST_EPSILON:g}"
    return _unsupported(f"{why}, has no integer form", "reshape or permute before it")


def _of_kinds(kinds: list[str]) -> Meaning | None:
    """Meaning of a function of these operators (those that copy left out), where integer operators compute them."""
    if not kinds:
        return Meaning(SAME_RANGE)
    if len(kinds) == 1 and kinds[0] in _BY_OPERATOR:
        return Meaning(_BY_OPERATOR[kinds[0]], FIXED_RANGES.get(kinds[0].lower()))
    known = _inner_ranges_are_known(kinds) or (set(kinds) in _HARD_SWISH and len(kinds) == 4)
    return Meaning(OUTPUT) if known else None


def _divides_by_a_tensor(work: list[Any]) -> bool:
    """Whether there is a quotient other than one by a constant, which is a product."""
    return any(operator.type == "RealDiv" and operator.inputs[1].op.type != "Const" for operator in work)


def _inner_ranges_are_known(kinds: list[str]) -> bool:
    """Whether all operators but the last have a fixed range, as in x * sigmoid(x)."""
    *first, last = kinds
    return all(_BY_OPERATOR.get(k) == FIXED for k in first) and _BY_OPERATOR.get(last) in (SUM, OUTPUT)


def fused_activation(layer: keras.layers.Layer) -> bool:
    """Whether the layer's own activation fuses into its kernel in TFLite."""
    return activation_name(getattr(layer, "activation", None)) in _FUSED_ACTIVATIONS


def ends_in_relu(layer: keras.layers.Layer, role: str) -> bool:
    """Whether a layer of this role is a ReLU, or ends in one."""
    return role == RELU or (role == WEIGHTS and activation_name(getattr(layer, "activation", None)) in _RELUS)


def unsigned_output(layer: keras.layers.Layer) -> bool:
    """Whether the layer's output is never negative because of the activation in which it ends."""
    if isinstance(layer, _L.ReLU):
        return not layer.negative_slope and layer.threshold >= 0
    return activation_name(getattr(layer, "activation", None)) in _NEVER_NEGATIVE
