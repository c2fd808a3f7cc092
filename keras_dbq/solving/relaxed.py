"""A layer with a ReLU behind it: outputs that the ReLU clips on both sides need not agree.

source: TSQ's objective |Q(Y) - Q(X W_q)|^2 (Wang et al., CVPR 2018), here with clip(., 0, top) for Q. The paper puts a
variable z between both and raises a penalty |z - X W_q|^2. derived: no penalty is needed. For the outputs v of the
present weights let z = y inside of the bounds, min(v, low) where y is clipped below, max(v, high) where it is clipped
above. Then |z - X W|^2 is at least the clipped error of W, and equal to it at the present weights but for what those
clip themselves; so weights that lower the former lower the latter. Each pass solves for such z, as the linear part is
solved for Y; the weights of the pass with the least clipped error are kept, column by column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from keras_dbq.network import roles
from keras_dbq.network.graph import Graph
from keras_dbq.network.moments import Moments
from keras_dbq.ops import coordinate_descent
from keras_dbq.wrapping import wrappers

# Inputs of the layer at the positions that are looked at, batch by batch: [groups, P, K] of the quantized network, and
# [groups, P, K] of the float one.
Seen = Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]


class Bounds(NamedTuple):
    """float64 [M]: below `low` and above `high` the ReLU clips the layer's own output (before bias and batch norm)."""

    low: np.ndarray
    high: np.ndarray


def bounds(graph: Graph, node: Any, norm: Any, channels: int) -> Bounds | None:
    """Of the float network's values, which the layer still has; None where no ReLU follows.

    Args:
      node: the call of a ternary layer.  norm: the batch norm that folds into it, or None.
    """
    top = _top(graph, node)
    if top is None:
        return None
    bias = wrappers.bias(node.layer)
    gain, shift = np.ones(channels), np.zeros(channels) if bias is None else bias.numpy().astype(np.float64)
    if norm is not None:
        inner = wrappers.inner(norm)
        gain = gain / np.sqrt(inner.moving_variance.numpy().astype(np.float64) + inner.epsilon)
        gain = gain if inner.gamma is None else gain * inner.gamma.numpy()
        shift = gain * (shift - inner.moving_mean.numpy())
        shift = shift if inner.beta is None else shift + inner.beta.numpy()
    # A channel without a gain gives one number, whatever the weights are.
    safe = np.where(np.abs(gain) < 1e-12, 1e-12, gain)
    ends = -shift / safe, (top - shift) / safe
    return Bounds(np.minimum(*ends), np.maximum(*ends))


def _top(graph: Graph, node: Any) -> float | None:
    """The largest value that the activation behind a layer passes on; None where it is no ReLU."""
    while node is not None:
        tensor, reader = wrappers.quantized_output(node.layer), graph.only_reader(node)
        if tensor is not None:
            coded = None if reader is None else wrappers.quantized_output(reader.layer)
            last = coded if coded is not None and roles.role(reader) == roles.TABLE else tensor
            low, high = (float(np.asarray(value)) for value in last.quantizer.range(last.variables))
            is_relu = roles.ends_in_relu(wrappers.inner(node.layer), roles.role(node))
            return high if is_relu and low == 0 else None
        node = reader
    return None


def solve(
    solve_for: Callable[[list[Moments]], coordinate_descent.Solution],
    start: coordinate_descent.Solution,
    moments: list[Moments],
    float_columns: np.ndarray,
    limits: Bounds,
    seen: Seen,
    passes: int,
) -> coordinate_descent.Solution:
    """The best of `start` and of `passes` solutions, column by column.

    Args:
      solve_for: the solution of given moments of all groups.
      start: of the linear part.  moments: of it.  float_columns: [K, M].
    """
    best, best_error, now = start, np.full(len(limits.low), np.inf), start
    offset = _means(moments, "y") - _projected(moments, now.weights)
    for number in range(passes + 1):
        error, wanted = _look(moments, float_columns, now.weights, offset, limits, seen)
        better = error < best_error
        best = coordinate_descent.Solution(*(np.where(better, a, b) for a, b in zip(now, best, strict=True)))
        best_error = np.where(better, error, best_error)
        if number < passes:
            now = solve_for(wanted)
            offset = _means(wanted, "y") - _projected(wanted, now.weights)
    return best


def _means(moments: list[Moments], name: str) -> np.ndarray:
    return np.concatenate([getattr(m, name) / m.count for m in moments])


def _projected(moments: list[Moments], weights: np.ndarray) -> np.ndarray:
    """The means of the outputs, [M]."""
    parts = np.split(weights, len(moments), 1)
    return np.concatenate([m.x / m.count @ w for m, w in zip(moments, parts, strict=True)])


def _look(
    moments: list[Moments],
    float_columns: np.ndarray,
    weights: np.ndarray,
    offset: np.ndarray,
    limits: Bounds,
    seen: Seen,
) -> tuple[np.ndarray, list[Moments]]:
    """(clipped error of the weights [M], moments with z in the place of the wanted outputs)."""
    count = len(moments)
    columns = [np.split(values, count, -1) for values in (float_columns, weights, offset, limits.low, limits.high)]
    error = [np.zeros(m.y.shape) for m in moments]
    wanted = [replace(m, y=np.zeros(m.y.shape), xy=np.zeros(m.xy.shape)) for m in moments]
    for noisy, clean in seen():
        for g, (w_float, w, o, low, high) in enumerate(zip(*columns, strict=True)):
            x = noisy[g].astype(np.float64)
            y, v = clean[g].astype(np.float64) @ w_float, x @ w + o
            error[g] += np.square(np.clip(y, low, high) - np.clip(v, low, high)).sum(0)
            z = np.where(y <= low, np.minimum(v, low), np.where(y >= high, np.maximum(v, high), y))
            wanted[g].y += z.sum(0)
            wanted[g].xy += x.T @ z
    return np.concatenate(error), wanted
