"""Rescaling of depthwise filters in a float network, so that one threshold fits all of them (FAT).

The network computes what it computed; only the weights' sizes move from a depthwise layer into the layer behind it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from keras_dbq import _checks, graph, layer_roles, wrappers
from keras_dbq._table import Table
from keras_dbq.calibration import Batches
from keras_dbq.compat import check_keras_model, keras, tf

L = keras.layers
CEILING = 6.0
LOCKED_ABOVE = 5.9  # source: FAT: a channel that reached this before ReLU6 may not be scaled
DEAD = 1e-7  # of the largest filter: nothing to gain, and much to divide by

# What a positive factor per channel may pass: f(s x) = s f(x).
_PASSES = (
    L.ZeroPadding2D,
    L.Cropping2D,
    L.MaxPooling2D,
    L.AveragePooling2D,
    L.GlobalAveragePooling2D,
    L.GlobalMaxPooling2D,
    L.UpSampling2D,
    L.Dropout,
    L.SpatialDropout2D,
)


class Rescaled(NamedTuple):
    """Result of `rescale_depthwise`.

    model: a copy with other weights and the same outputs.
    table: one row per depthwise layer: what was done, or why it was left alone.
    """

    model: keras.Model
    table: Table


class _Pair(NamedTuple):
    """A depthwise layer and the kernel layer that takes its channels; `rule` names what lies between."""

    depthwise: Any
    following: Any
    rule: str  # "relu6", "relu" or "linear"


def rescale_depthwise(model: keras.Model, data: Any, *, headroom: float = 1.2) -> Rescaled:
    """Brings the filters of each depthwise layer to one size, and undoes it in the layer behind.

    source (Goncharenko et al., FAT): per channel k with filter size T_k = max|w_k|. With ReLU6 behind it, X_k is the
    largest value before ReLU6 on the data; channels with X_k > 5.9 are locked (S_k = 1), the others get
    S_k = mean(T of the locked) / T_k. Plain ReLU or nothing: S_k = max(T) / T_k. Filter and bias are multiplied by S_k,
    the next layer's input channel k is divided by it.
    derived: with ReLU6, S_k X_k has to stay under 6, so S_k <= 6 / (headroom X_k); no locked channel: the rule for
    ReLU, then that cap; a dead filter has S_k = 1.

    Batch norm has to be folded first (`fold_batch_norms`). A depthwise layer is left alone, and the table says why,
    where something stands behind it that a factor may not cross: other activations, additions, batch norm, several
    readers, a flattened map.

    Args:
      model: float tf_keras model; stays untouched.
      data: pictures as for `quantize_model`, read once, batch by batch.
      headroom: how much larger than on `data` a channel may become on other pictures before ReLU6 clips it; at least 1.

    Raises:
      TypeError, ValueError: not a float Keras model, bad data, headroom under 1.
    """
    check_keras_model(model, "rescale_depthwise")
    headroom = _checks.number("headroom", headroom, 1.0, 1e6)
    copy = graph.flat_copy(model)
    table = Table(["layer", "next", "rule", "channels", "locked", "dead", "spread before", "spread after"])
    pairs = {layer.name: _pair(copy, layer) for layer in copy.layers if isinstance(layer, L.DepthwiseConv2D)}
    largest = _largest(copy, [p.depthwise for p in pairs.values() if isinstance(p, _Pair) and p.rule == "relu6"], data)
    for name, pair in pairs.items():
        if isinstance(pair, str):
            table.add(name, "-", f"left alone: {pair}", 0, 0, 0, 1.0, 1.0)
            continue
        kernel = pair.depthwise.get_weights()[0]
        sizes = np.abs(kernel).max((0, 1)).reshape(-1).astype(np.float64)
        reached = largest.get(name)
        factors, locked = scale_factors(sizes, None if reached is None else reached * headroom, reached)
        _apply(pair, factors)
        dead = sizes <= DEAD * sizes.max()
        alive = sizes[~dead] if not dead.all() else np.ones(1)
        after = (sizes * factors)[~dead] if not dead.all() else np.ones(1)
        spreads = (float(a.max() / a.min()) for a in (alive, after))
        table.add(name, pair.following.name, pair.rule, len(sizes), int(locked.sum()), int(dead.sum()), *spreads)
    return Rescaled(copy, table)


def scale_factors(
    sizes: np.ndarray, ceiling_reached: np.ndarray | None, reached: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(S [C], locked [C] bool) from the filters' sizes T [C].

    Args:
      sizes: T_k = max|w_k|.
      ceiling_reached: X_k times the headroom, which S_k times it may not carry over 6; None without ReLU6.
      reached: X_k, by which channels are locked; `ceiling_reached` where None.
    """
    dead = sizes <= DEAD * sizes.max(initial=0)
    safe = np.where(dead, 1.0, sizes)
    if ceiling_reached is None:
        return np.where(dead, 1.0, sizes.max(initial=0) / safe), np.zeros(len(sizes), bool)
    locked = (ceiling_reached if reached is None else reached) > LOCKED_ABOVE
    wanted = sizes[locked & ~dead]
    factors = (wanted.mean() if len(wanted) else sizes.max(initial=0)) / safe
    cap = np.where(ceiling_reached > 0, CEILING / np.where(ceiling_reached > 0, ceiling_reached, 1.0), np.inf)
    # A channel between the cap and the lock (headroom) must not shrink for it.
    factors = np.minimum(factors, np.maximum(cap, 1.0))
    return np.where(dead | locked, 1.0, factors), locked


def _pair(model: keras.Model, layer: Any) -> _Pair | str:
    """The layers that a factor would move between, or why it may not."""
    consumers, outputs = graph.consumers(model), graph.output_ids(model)
    calls = [node for node in graph.nodes(model) if node.layer is layer]
    if len(calls) > 1:
        return "called several times"
    rule = layer_roles.activation_name(layer.activation)
    tensor = tf.nest.flatten(calls[0].outputs)[0]
    while rule in ("linear", "relu", "relu6"):
        readers = consumers.get(id(tensor), [])
        if len(readers) != 1 or id(tensor) in outputs:
            return "several layers read it" if readers else "an output of the model"
        node = readers[0]
        following = node.layer
        if layer_roles.is_kernel_layer(following):
            if sum(n.layer is following for n in graph.nodes(model)) > 1:
                return f"{following.name} is called several times"
            if getattr(following, "groups", 1) != 1:
                return f"{following.name} is a grouped convolution"
            return _Pair(layer, following, rule)
        met = _passed(node)
        if met not in ("linear", "relu", "relu6"):
            return f"{following.name} ({met}) may not be crossed"
        rule = "relu6" if "relu6" in (rule, met) else "relu" if "relu" in (rule, met) else "linear"
        tensor = tf.nest.flatten(node.outputs)[0]
    return f"its activation {rule} may not be crossed"


def _passed(node: Any) -> str:
    """What a node does to a factor: "linear", "relu", "relu6", or the name of what it may not cross."""
    layer = node.layer
    if isinstance(layer, L.ReLU) and layer_roles.plain_role(layer) == layer_roles.RELU:
        return "relu" if layer.max_value is None else "relu6"
    if isinstance(layer, L.Activation):
        return layer_roles.activation_name(layer.activation)
    if type(layer) in _PASSES and getattr(layer, "interpolation", "nearest") == "nearest":
        return "linear"
    return type(layer).__name__


def _largest(model: keras.Model, layers: list[Any], data: Any) -> dict[str, np.ndarray]:
    """{layer: the largest value of each channel before its activation, over the data}; float64 [C]."""
    batches = Batches(data, model)
    if not layers:
        return {}
    nodes = {id(node.layer): node for node in graph.nodes(model)}
    reads = keras.Model(model.inputs, [tf.nest.flatten(nodes[id(layer)].keras_inputs)[0] for layer in layers])
    found = {layer.name: np.full(layer.output_shape[-1], -np.inf) for layer in layers}
    for batch in batches.read("largest values before ReLU6"):
        inputs = reads(batch if len(batch) > 1 else batch[0], training=False)
        for layer, x in zip(layers, tf.nest.flatten(inputs), strict=True):
            with wrappers.without_activation(layer):
                y = layer.call(x)
            found[layer.name] = np.maximum(found[layer.name], tf.reduce_max(y, [0, 1, 2]).numpy())
    return found


def _apply(pair: _Pair, factors: np.ndarray) -> None:
    """Multiplies the depthwise filters and biases, divides the next kernel's input channels."""
    kernel, *bias = (w.astype(np.float64) for w in pair.depthwise.get_weights())
    kernel = kernel * factors.reshape(kernel.shape[-2:])
    pair.depthwise.set_weights([kernel, *(b * factors for b in bias)])
    kernel, *bias = (w.astype(np.float64) for w in pair.following.get_weights())
    # Input channels: the last axis but one in every kernel (h, w, C, M), (h, w, C, multiplier), (K, M).
    pair.following.set_weights([kernel / factors[:, None], *bias])
