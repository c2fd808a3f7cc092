"""TensorFlow operators that take vectors with each other, or one with itself: where they have an integer form."""

from typing import Any

from keras_dbq.compat import tf

NORMALIZATION = frozenset("Square Sum Maximum Rsqrt Mul".split())
# choice: with a larger epsilon a vector of a few small codes would be no unit vector, and the integer operator, which
# has no epsilon, makes it one.
LARGEST_EPSILON = 1e-10
# derived: products of two codes (less their zero points, so up to 255 each) whose sum int32 holds.
LARGEST_DEPTH = (2**31 - 1) // 255**2
# source: TFLite's kernels; the batch's axis counts.
_AXES_OF_A_NORMALIZATION, _AXES_OF_A_PRODUCT = 4, 5


def normalizes(work: list[Any]) -> bool:
    """Whether operators are x / |x| over the last axis, as tf.math.l2_normalize writes it.

    Args:
      work: TensorFlow operators in their order, without those that only copy.
    """
    by_type = {operator.type: operator for operator in work}
    if len(work) != len(NORMALIZATION) or by_type.keys() != NORMALIZATION:
        return False
    total, (x,) = by_type["Sum"], by_type["Square"].inputs
    axes, epsilon = (tf.get_static_value(o.inputs[1]) for o in (total, by_type["Maximum"]))
    if axes is None or epsilon is None or by_type["Mul"].inputs[0] is not x or not total.get_attr("keep_dims"):
        return False
    along = {int(axis) % x.shape.rank for axis in axes.ravel()}
    fits = x.shape.rank <= _AXES_OF_A_NORMALIZATION and (x.shape[-1] or 0) <= LARGEST_DEPTH
    return along == {x.shape.rank - 1} and float(epsilon) <= 1.001 * LARGEST_EPSILON and fits  # float32


def why_no_product(work: list[Any]) -> str:
    """What stands in the way of products of matrices among operators, a phrase; empty where nothing does."""
    found = (_why_no_product(operator) for operator in work if operator.type == "BatchMatMulV2")
    return next(filter(None, found), "")


def _why_no_product(operator: Any) -> str:
    first, second = operator.inputs
    depth = first.shape[-2 if operator.get_attr("adj_x") else -1] or 0
    if not (_comes_from_a_call(first) and _comes_from_a_call(second)):
        return "one of its matrices is a constant"
    if max(first.shape.rank, second.shape.rank) > _AXES_OF_A_PRODUCT:
        return f"a product of matrices has more than {_AXES_OF_A_PRODUCT} axes"
    return f"a dot product of {depth} numbers does not fit int32" if depth > LARGEST_DEPTH else ""


def _comes_from_a_call(tensor: Any) -> bool:
    """Whether a tensor depends on the inputs of its function (and not on what that captured alone)."""
    own = {id(t) for t in tensor.graph.inputs} - {id(t) for t in tensor.graph.internal_captures}
    waiting, seen = [tensor], set()
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in own:
            return True
        seen.add(id(tensor))
        waiting += [t for t in tensor.op.inputs if id(t) not in seen]
    return False
