"""Two kernel layers with nothing between them that a factor per channel could not cross: factors move between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.network import channels, kernels, roles
from keras_dbq.network.batches import Batches
from keras_dbq.network.graph import Graph, inputs

CEILING = 6.0
_RULES = ("linear", "relu", "relu6")  # what a factor may cross; the later one says more


class Pair(NamedTuple):
    """A kernel layer and the one that takes its channels; `rule` names what lies between."""

    first: Any
    following: Any
    rule: str  # what it may be: _RULES
    between: tuple[Any, ...]  # without weights, in order


def found(model: keras.Model, is_first: Callable[[Any], bool]) -> dict[str, Pair | str]:
    """{name of a layer: the pair that it is the first of, or why it has none}."""
    graph = Graph(model)
    return {layer.name: _pair(graph, layer) for layer in model.layers if is_first(layer)}


def _pair(graph: Graph, layer: Any) -> Pair | str:
    """The layers that a factor would move between, or why it may not."""
    node, *more = graph.calls(layer)
    if more:
        return "called several times"
    rule = roles.activation_name(layer.activation)
    between: list[Any] = []
    while rule in _RULES:
        node = channels.after(graph, node)
        if isinstance(node, channels.Blocked):
            return node.reason
        if kernels.is_kernel_layer(node.layer):
            return _why_not_read(graph, node.layer) or Pair(layer, node.layer, rule, tuple(between))
        met = channels.crossing(node.layer)
        if met not in _RULES:
            return f"{node.layer.name} ({met}) may not be crossed"
        rule = max(rule, met, key=_RULES.index)
        between.append(node.layer)
    return f"its activation {rule} may not be crossed"


def _why_not_read(graph: Graph, following: Any) -> str:
    """Why the input channels of a kernel layer may not be divided; empty where they may."""
    if len(graph.calls(following)) > 1:
        return f"{following.name} is called several times"
    return f"{following.name} is a grouped convolution" if getattr(following, "groups", 1) != 1 else ""


def looked_at(
    model: keras.Model, wanted: list[Pair], data: Any, title: str, look: Callable[[Pair, Any], tuple[Any, ...]]
) -> Iterator[list[tuple[np.ndarray, ...]]]:
    """For each batch of the data what `look` makes of each pair's channels, before any activation: float64 arrays.

    Args:
      title: of the progress bar.  look: (pair, [N, places, C]) -> tensors; in a graph.
    """
    batches = Batches(data, model)
    if not wanted:
        return
    graph = Graph(model)
    reads = keras.Model(model.inputs, [inputs(graph.calls(pair.first)[0])[0] for pair in wanted])

    @tf.function(reduce_retracing=True)
    def looked(batch: Any) -> list[tuple[Any, ...]]:
        found = []
        for pair, x in zip(wanted, tf.nest.flatten(reads(batch, training=False)), strict=True):
            with kernels.without_activation(pair.first):
                y = pair.first.call(x)
            found.append(look(pair, tf.reshape(y, [tf.shape(y)[0], -1, y.shape[-1]])))
        return found

    for batch in batches.read(title):
        found = looked(batch if len(batch) > 1 else batch[0])
        yield [tuple(values.numpy().astype(np.float64) for values in of_pair) for of_pair in found]


def apply(pair: Pair, factors: np.ndarray) -> None:
    """Multiplies filters and biases, divides the next kernel's input channels."""
    kernel, *bias = (w.astype(np.float64) for w in pair.first.get_weights())
    pair.first.set_weights([kernels.scale_outputs(pair.first, kernel, factors), *(b * factors for b in bias)])
    kernel, *bias = (w.astype(np.float64) for w in pair.following.get_weights())
    pair.following.set_weights([kernels.scale_inputs(kernel, 1 / factors), *bias])
