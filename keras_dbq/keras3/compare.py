"""Whether the converted graph computes what the Keras 3 graph does, layer by layer, on random input."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.keras3.detect import nodes
from keras_dbq.keras3.missing import NoCounterpart, NotConverted, first_line, kind, obstacle
from keras_dbq.network import graph

_SIZES = (32, 64, 128, 256)  # of dimensions that the model leaves open, the first that it takes
_BATCH = 2


class Converted(NamedTuple):
    """One graph, before and after.

    function: the Keras 3 graph.  values: {id of its KerasTensor: the tf_keras tensor that stands for it}.
    """

    function: Any
    values: dict[int, Any]


def compare(converted: Converted, tolerance: float, seed: int = 0) -> float:
    """Compares every layer on numbers of the normal distribution and on numbers from 0 to 255 at the graph's inputs.

    derived: error of a tensor = max|a - b| / max(max|a|, 0.001); whole numbers and truth values have to be equal.

    Returns:
      The largest error.

    Raises:
      ValueError: an error above `tolerance`, naming the first layer; a graph that cannot be run.
    """
    rng = np.random.default_rng(seed)
    worst = 0.0
    with _float32(converted.function):
        for draw in (_normal, _pixels):
            inputs, expected = _run_old(converted.function, draw, rng)
            worst = max(worst, _worst(converted, inputs, expected, tolerance))
    return worst


def _tensors(function: Any) -> list[tuple[Any, Any]]:
    """(node, tensor) of everything that the graph computes, in execution order."""
    return [(node, tensor) for node in nodes(function) for tensor in node.outputs]


def _run_old(function: Any, draw: Any, rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Random inputs of the first size that the graph takes, and its tensors."""
    import keras as keras_3  # imported by whoever made the model

    run = keras_3.Model(list(function.inputs), [tensor for _, tensor in _tensors(function)])
    reasons: list[Exception] = []
    for size in _SIZES:
        inputs = [_input(tensor, size, draw, rng, function) for tensor in function.inputs]
        try:
            outputs = run([keras_3.ops.convert_to_tensor(x) for x in inputs], training=False)
            listed = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            return inputs, [np.asarray(keras_3.ops.convert_to_numpy(value)) for value in listed]
        except Exception as error:  # whatever the backend says to this size
            reasons.append(error)
    raise ValueError(
        f"from_keras3: the model cannot be run on random input ({first_line(reasons[0])}); give its inputs a size"
    )


def _worst(converted: Converted, inputs: list[np.ndarray], expected: list[np.ndarray], tolerance: float) -> float:
    """The largest error of a layer; each gets what Keras 3 computed before it, so that errors do not add up."""
    values, tensors = converted.values, _tensors(converted.function)
    first = [values[id(tensor)] for tensor in converted.function.inputs]
    known = {id(values[id(t)]): (node, value) for (node, t), value in zip(tensors, expected, strict=True)}
    now = {id(t): tf.constant(x, t.dtype) for t, x in zip(first, inputs, strict=True)}
    worst = 0.0
    for node in graph.nodes(keras.Model(first, [values[id(tensor)] for _, tensor in tensors])):
        for tensor, result in zip(tf.nest.flatten(node.outputs), _results(node, now), strict=True):
            now[id(tensor)] = result
            if id(tensor) in known:
                old, value = known[id(tensor)]
                worst = max(worst, _checked(old.operation, value, np.asarray(result), tolerance))
                now[id(tensor)] = _with_mask_of(result, value)
    return worst


def _results(node: Any, now: dict[int, Any]) -> list[Any]:
    """What a call of a tf_keras layer gives at inference."""
    args, kwargs = tf.nest.map_structure(lambda v: now.get(id(v), v), (node.call_args, node.call_kwargs))
    if node.layer._expects_training_arg:
        kwargs = {**kwargs, "training": False}
    try:
        return tf.nest.flatten(node.layer(*args, **kwargs))
    except Exception as error:  # whatever TensorFlow says on this machine
        raise _refused(node.layer, f"tf_keras cannot run it here ({first_line(error)})", "replace it") from error


def _with_mask_of(result: Any, value: np.ndarray) -> Any:
    """The value as a tensor with the mask that Keras hung on the layer's result."""
    tensor = tf.constant(value, result.dtype)
    tensor._keras_mask = getattr(result, "_keras_mask", None)
    return tensor


def _checked(operation: Any, old: np.ndarray, new: np.ndarray, tolerance: float) -> float:
    error = _error(old, new)
    if not error <= tolerance:
        why = (
            f"expected tf_keras to compute the same, got a relative error of {error:.3g} on random input "
            f"(tolerance {tolerance:g})"
        )
        raise _refused(operation, why, "replace the layer, and report it with its config")
    return error


def _refused(operation: Any, why: str, advice: str) -> NotConverted:
    return NotConverted(
        f"from_keras3: {kind(operation)}: {why}; {advice}", [obstacle(operation, NoCounterpart(f"{why}; {advice}"))]
    )


def _error(a: np.ndarray, b: np.ndarray) -> float:
    """See `compare`. Values that are no numbers have to be so in both."""
    if a.shape != b.shape:
        return float("inf")
    if not np.issubdtype(b.dtype, np.floating):
        return 0.0 if np.array_equal(a, b) else float("inf")
    a, b = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    return float(np.abs(a - b)[finite].max() / max(np.abs(a[finite]).max(), 1e-3))


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=shape)


def _pixels(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0, 255, size=shape)


def _input(tensor: Any, size: int, draw: Any, rng: np.random.Generator, function: Any) -> np.ndarray:
    batch, *rest = tensor.shape
    shape = (batch or _BATCH, *(size if d is None else d for d in rest))
    if tensor.dtype.startswith(("float", "bfloat")):
        return draw(shape, rng).astype("float64" if tensor.dtype == "float64" else "float32")
    if tensor.dtype == "bool":
        return rng.random(shape) < 0.5
    if not tensor.dtype.startswith(("int", "uint")):
        raise ValueError(
            f"from_keras3: input {tensor.name!r}: expected numbers, got {tensor.dtype}; prepare texts before"
        )
    return rng.integers(0, _smallest_table(function), shape).astype(tensor.dtype)


def _smallest_table(function: Any) -> int:
    """Integers below this are rows of every Embedding; pixel values where there is none."""
    layers = [layer for node in nodes(function) for layer in _flat(node.operation)]
    return min([layer.input_dim for layer in layers if type(layer).__name__ == "Embedding"], default=256)


def _flat(operation: Any) -> list[Any]:
    return list(operation._flatten_layers()) if hasattr(operation, "_flatten_layers") else []


@contextmanager
def _float32(function: Any) -> Iterator[None]:
    """The Keras 3 layers compute in float32 for a while, those of lower precision."""
    layers = [layer for node in nodes(function) for layer in _flat(node.operation)]
    before = [(x, x.dtype_policy) for x in layers if x.dtype_policy.compute_dtype in ("bfloat16", "float16")]
    try:
        for layer, _ in before:
            layer.dtype_policy = "float32"
        yield
    finally:
        for layer, policy in before:
            layer.dtype_policy = policy
