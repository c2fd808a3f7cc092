"""Batch norm: what it computes at inference, along which axes, and into which layer it folds."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_dbq.compat import keras
from keras_dbq.network import kernels, roles
from keras_dbq.network.graph import Graph, inner, inputs

L = keras.layers


def is_batch_norm(layer: keras.layers.Layer) -> bool:
    """Whether the layer, or the one inside of its wrapper, is a BatchNormalization."""
    return isinstance(inner(layer), L.BatchNormalization)


def affine(norm: keras.layers.Layer) -> tuple[np.ndarray, np.ndarray]:
    """(factor, offset) of a batch norm at inference, y = factor * x + offset; float64 [C].

    derived: factor = gamma / sqrt(variance + epsilon), offset = beta - mean * factor. Several axes: C is their product.
    """
    mean = np.asarray(norm.moving_mean, np.float64)
    factor = 1 / np.sqrt(np.asarray(norm.moving_variance, np.float64) + norm.epsilon)
    if norm.scale:
        factor = factor * np.asarray(norm.gamma, np.float64)
    offset = -mean * factor
    if norm.center:
        offset = offset + np.asarray(norm.beta, np.float64)
    return factor.reshape(-1), offset.reshape(-1)


# A deviation that grows by more than this was that of a channel which never changes, but for its rounding.
_MOST = 1e6


def keep_output_moments(
    norm: keras.layers.Layer,
    own: tuple[np.ndarray, np.ndarray],
    wanted: tuple[np.ndarray, np.ndarray],
    source: keras.layers.Layer,
) -> None:
    """Gives a batch norm the statistics with which its output has the mean and deviation of the float network's.

    derived: the float network gives (y - m) / s. With r = std(own) / std(y) the same moments come from s' = r s and
    m' = mean(own) - r (mean(y) - m). Where m and s are the moments of y, as training leaves them, m' and s' are those
    of `own`; they need not be, as in a network whose batch norm was folded and put back.

    Args:
      norm: what is set.
      own, wanted: (mean, variance) [C] of what it reads, and of what it reads in the float network (y).
      source: the float network's, with m and s; `norm` itself, as long as it holds them.
    """
    ratio = np.sqrt(own[1] / np.where(wanted[1] > 0, wanted[1], np.where(own[1] > 0, own[1], 1.0)))
    ratio = np.minimum(ratio, _MOST)
    spread = ratio**2 * (source.moving_variance.numpy() + source.epsilon)
    mean = own[0] - ratio * (wanted[0] - source.moving_mean.numpy())
    norm.moving_mean.assign(mean.astype(np.float32))
    norm.moving_variance.assign(np.maximum(spread - norm.epsilon, 0).astype(np.float32))


def axes(norm: keras.layers.Layer, rank: int) -> tuple[int, ...]:
    """The axes that have parameters of their own, ascending, of an input of this rank."""
    given = [norm.axis] if isinstance(norm.axis, int) else list(norm.axis)
    return tuple(sorted(axis % rank for axis in given))


def over_channels(norm: keras.layers.Layer, rank: int) -> bool:
    """Whether the parameters lie along the last axis alone."""
    return axes(norm, rank) == (rank - 1,)


def folds(graph: Graph, ends: Callable[[Any], bool] = lambda node: False) -> dict[int, keras.layers.Layer]:
    """{id of a kernel layer: the batch norm that folds into it}, both as they stand in the model (maybe wrapped).

    A batch norm folds into a Conv2D, DepthwiseConv2D, Dense or SeparableConv2D (its pointwise part) without activation
    whose outputs it alone reads, over the last axis. Layers that are called several times fold as a pair: every call of
    the one is followed by a call of the other.

    Args:
      graph: of a float or a quantized model.
      ends: whether the output of a call is quantized, so that nothing folds across it.
    """
    found: dict[int, keras.layers.Layer] = {}
    for node in graph.nodes:
        if is_batch_norm(node.layer):
            source = _foldable_source(graph, node, ends)
            if source is not None and _is_pair(graph, source.layer, node.layer, ends):
                found[id(source.layer)] = node.layer
    return found


def _foldable_source(graph: Graph, node: Any, ends: Callable[[Any], bool]) -> Any:
    """The call of a kernel layer into which this call of a batch norm could fold; None if there is none."""
    source = graph.only_source(node)
    if source is None or ends(source):
        return None
    layer = inner(source.layer)
    has_kernel = kernels.is_kernel_layer(layer) or type(layer) is L.SeparableConv2D
    if not has_kernel or roles.activation_name(layer.activation) != "linear":
        return None
    return source if over_channels(inner(node.layer), len(inputs(node)[0].shape)) else None


def _is_pair(graph: Graph, kernel: Any, norm: Any, ends: Callable[[Any], bool]) -> bool:
    sources = [_foldable_source(graph, node, ends) for node in graph.calls(norm)]
    alone = all(source is not None and source.layer is kernel for source in sources)
    return alone and len(sources) == len(graph.calls(kernel))
