"""Operations of Keras 3 on tensors (`keras.ops`, and `+` and its kin) in tf_keras: layers where there are some.

One table per kind of operation. A layer is better than an operator on tensors: quantization knows more of them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.keras3 import operations_shape
from keras_dbq.keras3.activations import IN_OPERATORS, apply, is_tensor
from keras_dbq.keras3.detect import is_builtin
from keras_dbq.keras3.missing import NoCounterpart

L = keras.layers
Call = Callable[..., Any]

# {operation: (TensorFlow function, layer that does the same to two tensors of one shape)}
_BINARY: dict[str, tuple[Call, type | None]] = {
    "Add": (tf.add, L.Add),
    "Subtract": (tf.subtract, L.Subtract),
    "Multiply": (tf.multiply, L.Multiply),
    "Maximum": (tf.maximum, L.Maximum),
    "Minimum": (tf.minimum, L.Minimum),
    "Divide": (tf.divide, None),
    "TrueDivide": (tf.divide, None),
    "FloorDivide": (tf.math.floordiv, None),
    "Mod": (tf.math.floormod, None),
    "Power": (tf.pow, None),
    "Matmul": (tf.matmul, None),
    "DivideNoNan": (tf.math.divide_no_nan, None),
    "Equal": (tf.equal, None),
    "NotEqual": (tf.not_equal, None),
    "Greater": (tf.greater, None),
    "GreaterEqual": (tf.greater_equal, None),
    "Less": (tf.less, None),
    "LessEqual": (tf.less_equal, None),
    "LogicalAnd": (tf.logical_and, None),
    "LogicalOr": (tf.logical_or, None),
}
_UNARY: dict[str, Call] = {
    "Absolute": tf.abs,
    "Abs": tf.abs,
    "Ceil": tf.math.ceil,
    "Copy": tf.identity,
    "Cos": tf.cos,
    "Erf": tf.math.erf,
    "Exp": tf.exp,
    "Expm1": tf.math.expm1,
    "Floor": tf.floor,
    "Log": tf.math.log,
    "Log1p": tf.math.log1p,
    "LogicalNot": tf.logical_not,
    "Negative": tf.negative,
    "Reciprocal": tf.math.reciprocal,
    "Rsqrt": tf.math.rsqrt,
    "Sign": tf.sign,
    "Sin": tf.sin,
    "Sqrt": tf.sqrt,
    "Square": tf.square,
    "StopGradient": tf.stop_gradient,
}
_REDUCTIONS: dict[str, Call] = {
    "All": tf.reduce_all,
    "Amax": tf.reduce_max,
    "Amin": tf.reduce_min,
    "Any": tf.reduce_any,
    "Logsumexp": tf.reduce_logsumexp,
    "Max": tf.reduce_max,
    "Mean": tf.reduce_mean,
    "Min": tf.reduce_min,
    "Prod": tf.reduce_prod,
    "Std": tf.math.reduce_std,
    "Sum": tf.reduce_sum,
    "Var": tf.math.reduce_variance,
}
_FLOAT_REDUCTIONS = ("Mean", "Std", "Var", "Logsumexp")
_GLOBAL_POOLING = {"Mean": L.GlobalAveragePooling2D, "Max": L.GlobalMaxPooling2D, "Amax": L.GlobalMaxPooling2D}
# Operations with an activation of tf_keras that has the same values.
_ACTIVATIONS = {
    "Mish": "mish",
    "Selu": "selu",
    "Sigmoid": "sigmoid",
    "Silu": "silu",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Tanh": "tanh",
}
# Operations that `activations` writes in operators.
_IN_OPERATORS = {
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
    "HardTanh": "hard_tanh",
    "LogSigmoid": "log_sigmoid",
    "TanhShrink": "tanh_shrink",
}


def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
    """What a Keras 3 operation computes, on tf_keras tensors and constants.

    Raises:
      NoCounterpart: an operation that is not in the tables, or options of it.
    """
    name = type(operation).__name__
    if not is_builtin(operation):
        raise NoCounterpart(f"a class of {type(operation).__module__}; write it with keras.layers and keras.ops")
    for table, how in _KINDS:
        if name in table:
            return how(operation, name, *args, **kwargs)
    raise NoCounterpart(f"keras.ops.{name} is not in this package's table; use other operations or a layer for it")


def _binary(operation: Any, name: str, x1: Any, x2: Any) -> Any:
    function, layer = _BINARY[name]
    x1, x2 = _one_dtype(x1, x2, floating=name in ("Divide", "TrueDivide"))
    if name == "Matmul" and min(len(x1.shape), len(x2.shape)) < 2:
        raise NoCounterpart("matmul with a vector; add an axis with keras.ops.expand_dims")
    both = all(is_tensor(x) for x in (x1, x2))
    if layer is not None and both and x1.shape == x2.shape and len(x1.shape) > 1:
        return layer(name=operation.name)([x1, x2])
    return apply(function, operation.name, x1, x2)


def _one_dtype(*values: Any, floating: bool = False) -> list[Any]:
    """Tensors of one dtype, as Keras 3 promotes them: of two the floating one; constants adapt."""
    dtypes = {tf.as_dtype(v.dtype) for v in values if hasattr(v, "dtype") and is_tensor(v)}
    floats = [d for d in dtypes if d.is_floating]
    if not floats and (floating or len(dtypes) > 1):
        raise NoCounterpart(f"numbers of {', '.join(sorted(d.name for d in dtypes))}; cast them with keras.ops.cast")
    target = floats[0] if len(floats) == 1 else tf.float32 if floats else next(iter(dtypes))
    return [_as(v, target) for v in values]


def _as(value: Any, dtype: Any) -> Any:
    if is_tensor(value):
        return value if value.dtype == dtype else tf.cast(value, dtype)
    array = np.asarray(value)
    if array.dtype.kind == "f" and not dtype.is_floating:
        raise NoCounterpart(f"{dtype.name} with a constant that is no whole number; cast with keras.ops.cast")
    number = array.ndim == 0 and dtype in (tf.float32, tf.int32)  # TensorFlow reads Python's numbers as these
    return array.astype(dtype.as_numpy_dtype).item() if number else array.astype(dtype.as_numpy_dtype)


def _unary(operation: Any, name: str, x: Any) -> Any:
    return apply(_UNARY[name], operation.name, x)


def _reduction(operation: Any, name: str, x: Any) -> Any:
    if getattr(operation, "initial", None) is not None or getattr(operation, "dtype", None) is not None:
        raise NoCounterpart("its options initial or dtype; leave them out")
    if name in _FLOAT_REDUCTIONS and not x.dtype.is_floating:
        raise NoCounterpart(f"of numbers of {x.dtype.name}; cast them to float with keras.ops.cast")
    axes = _axes(operation.axis, len(x.shape))
    if axes == (1, 2) and len(x.shape) == 4 and name in _GLOBAL_POOLING and x.dtype.is_floating:
        return _GLOBAL_POOLING[name](
            data_format="channels_last", keepdims=bool(operation.keepdims), name=operation.name
        )(x)
    return apply(
        _REDUCTIONS[name],
        operation.name,
        x,
        axis=None if operation.axis is None else list(axes),
        keepdims=bool(operation.keepdims),
    )


def _axes(axis: Any, rank: int) -> tuple[int, ...]:
    given = range(rank) if axis is None else axis if isinstance(axis, (list, tuple)) else (axis,)
    return tuple(sorted(a % rank for a in given))


def _activation(operation: Any, name: str, x: Any) -> Any:
    return L.Activation(_ACTIVATIONS[name], name=operation.name)(x)


def _in_operators(operation: Any, name: str, x: Any) -> Any:
    return IN_OPERATORS[_IN_OPERATORS[name]](x, operation.name)


def _elu(operation: Any, x: Any) -> Any:
    return L.ELU(alpha=operation.alpha, name=operation.name)(x)


def _gelu(operation: Any, x: Any) -> Any:
    return apply(tf.nn.gelu, operation.name, x, approximate=bool(operation.approximate))


def _leaky_relu(operation: Any, x: Any) -> Any:
    return L.LeakyReLU(alpha=operation.negative_slope, name=operation.name)(x)


def _relu(operation: Any, x: Any) -> Any:
    options = {key: getattr(operation, key) for key in ("max_value", "negative_slope", "threshold")}
    return L.ReLU(**options, name=operation.name)(x)


def _softmax(operation: Any, x: Any) -> Any:
    return L.Softmax(axis=operation.axis, name=operation.name)(x)


def _log_softmax(operation: Any, x: Any) -> Any:
    return apply(tf.nn.log_softmax, operation.name, x, axis=operation.axis)


def _clip(operation: Any, x: Any) -> Any:
    return apply(tf.clip_by_value, operation.name, x, operation.x_min, operation.x_max)


def _cast(operation: Any, x: Any) -> Any:
    return apply(tf.cast, operation.name, x, operation.dtype)


def _where(operation: Any, condition: Any, x1: Any = None, x2: Any = None) -> Any:
    if x1 is None or x2 is None:
        raise NoCounterpart("where with a condition alone; give it both choices")
    x1, x2 = _one_dtype(x1, x2)
    return apply(tf.where, operation.name, condition, x1, x2)


def _einsum(operation: Any, *operands: Any) -> Any:
    return apply(tf.einsum, operation.name, operation.subscripts, *_one_dtype(*operands))


_SINGLE: dict[str, Call] = {
    "Cast": _cast,
    "Clip": _clip,
    "Einsum": _einsum,
    "Elu": _elu,
    "Gelu": _gelu,
    "LeakyRelu": _leaky_relu,
    "LogSoftmax": _log_softmax,
    "ReLU": _relu,
    "Relu": lambda operation, x: L.ReLU(name=operation.name)(x),
    "Relu6": lambda operation, x: L.ReLU(6.0, name=operation.name)(x),
    "Softmax": _softmax,
    "Where": _where,
    **operations_shape.TABLE,
}


def _single(operation: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    return _SINGLE[name](operation, *args, **kwargs)


_KINDS: tuple[tuple[dict[str, Any], Call], ...] = (
    (_BINARY, _binary),
    (_UNARY, _unary),
    (_REDUCTIONS, _reduction),
    (_ACTIVATIONS, _activation),
    (_IN_OPERATORS, _in_operators),
    (_SINGLE, _single),
)
