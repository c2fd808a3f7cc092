"""What a layer's call computes, read from the TensorFlow operators that it is traced to."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_dbq.compat import tf
from keras_dbq.network.graph import inner, inputs

# Operators that map each number by itself, given one tensor and constants.
_BY_NUMBER = frozenset(
    "Abs Acosh Add AddN AddV2 Asinh Atan BiasAdd Cast Ceil ClipByValue Cos Cosh Div DivNoNan Elu Equal Erf Erfc Exp "
    "Expm1 Fill Floor FloorDiv Greater GreaterEqual Inv LeakyRelu Less LessEqual Log Log1p LogicalAnd LogicalNot "
    "LogicalOr Maximum Minimum Mul MulNoNan Neg NotEqual OnesLike Pow RealDiv Reciprocal Relu Relu6 Rint Round Rsqrt "
    "Select SelectV2 Selu Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Square SquaredDifference Sub Tan Tanh "
    "TruncateDiv Xdivy Xlogy ZerosLike".split()
)
_AROUND = frozenset("Const Placeholder Identity IdentityN NoOp StopGradient Shape".split())


def operators(node: Any) -> list[Any]:
    """The TensorFlow operators of one call of a layer (which may be wrapped), in inference.

    Raises:
      Exception: whatever the user's function raises.
    """
    return _concrete(node).graph.get_operations()


def is_by_number(found: list[Any]) -> bool:
    """Whether these operators make one tensor from one tensor, each number by itself and all in the same way."""
    placeholders = [operator for operator in found if operator.type == "Placeholder"]
    if len(placeholders) != 1 or not _BY_NUMBER.issuperset(o.type for o in found if o.type not in _AROUND):
        return False
    constants = [tensor for o in found if o.type == "Const" for tensor in o.outputs if tensor.dtype.is_floating]
    return all(tensor.shape.num_elements() == 1 for tensor in constants)


def function_by_number(node: Any) -> Callable[[np.ndarray], np.ndarray]:
    """The function of a call for which `is_by_number` holds: float32 [n] -> float32 [n]."""
    concrete, (tensor,) = _concrete(node), inputs(node)
    sizes = [size or 1 for size in tensor.shape[1:]]

    def evaluate(values: np.ndarray) -> np.ndarray:
        count = -(-len(values) // int(np.prod(sizes)))  # examples that hold all values
        filled = np.resize(values.astype(np.float32), (count, *sizes))
        (result,) = tf.nest.flatten(concrete(tf.constant(filled)))
        return np.asarray(result, np.float32).reshape(-1)[: len(values)]

    return evaluate


def _concrete(node: Any) -> Any:
    """The call as a concrete function of its tensors."""
    layer, tensors = inner(node.layer), inputs(node)
    specs = [tf.TensorSpec([None, *t.shape[1:]] if t.shape.rank else t.shape, t.dtype) for t in tensors]
    mode = {"training": False} if layer._expects_training_arg else {}

    def call(*values: Any) -> Any:
        table = {id(t): v for t, v in zip(tensors, values, strict=True)}
        args, kwargs = tf.nest.map_structure(lambda v: table.get(id(v), v), (node.call_args, node.call_kwargs))
        return layer.call(*args, **{**kwargs, **mode})

    return tf.function(call).get_concrete_function(*specs)
