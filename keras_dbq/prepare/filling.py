"""Dead channels of a float network put to use, so that few levels per weight are enough (channel splitting).

The network computes what it computed; channels that were always zero become scaled copies of live ones, and the layer
that reads them divides its weights between a channel and its copies such that each part is close to a level.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from keras_dbq import _checks
from keras_dbq._table import Table
from keras_dbq.compat import check_keras_model, keras, tf
from keras_dbq.network import batch_norm, channels, kernels, roles
from keras_dbq.network.batches import Batches
from keras_dbq.network.graph import Graph, flat_copy, inputs
from keras_dbq.ops import branches as branch_ops
from keras_dbq.prepare.result import Prepared

L = keras.layers
Filled = Prepared  # its name in 0.1
_STARTS = np.geomspace(0.02, 1.0, 16)  # of the search for a copy's scale
_ROUNDS = 8
ENOUGH = 1e-6  # of the weighted squared weights: copies stop where so little is left to represent


class _Path(NamedTuple):
    """From the kernel layer that makes the channels to the one that reads them."""

    producer: Any
    between: list[Any]  # batch norms and depthwise layers, in order
    scaled: Any  # of those (or the producer) the last: a copy's scale goes into its weights
    reader: Any


def fill_dead_channels(model: keras.Model, data: Any, *, branches: int = 1) -> Prepared:
    """Makes dead channels into copies of live ones, for ternary weights with less error.

    Trained networks, small MobileNets above all, often have channels that a ReLU holds at zero for every picture. The
    file stores and computes them anyway. A dead channel d becomes s times the live channel c, and the weights v that
    read it take over a part of those of c: w_c x_c = (w_c - s v) x_c + v (s x_c).

    source: copying channels without a change of the function is Net2WiderNet (Chen et al., arXiv 1511.05641),
    splitting them against quantization error is outlier channel splitting (Zhao et al., arXiv 1901.09504).
    derived: with the levels Q_o of each output channel o, fitted to the live rows, every copy goes to the channel whose
    remaining error E[x_c^2] |r_c|^2, r_c = w_c - Q(w_c), is largest; v is made of levels, s and v lessen
    |r_c - s v|^2 in turns from 16 starts. So k copies are like k more branches for that channel. Readers are done from
    the last to the first: copied channels are more columns of the producer's kernel.

    A channel is dead where it reaches the reader as 0 in every place of every picture of `data`; a picture that would
    have woken it gives other outputs afterwards. Readers are left alone, and the table says why, where the channels do
    not come from one Conv2D or Dense through batch norm, depthwise layers, pooling and activations alone, or where a
    factor may not pass to the reader (an activation other than ReLU behind the last batch norm or depthwise layer).

    Args:
      model: float tf_keras model, batch norm folded or not; stays untouched.
      data: pictures as for `quantize_model`, read once, batch by batch; the more, the surer what is dead.
      branches: of the weights afterwards, 1 to 3.

    Raises:
      TypeError, ValueError: not a float Keras model, bad data, branches out of range.
    """
    check_keras_model(model, "fill_dead_channels")
    branches = _checks.integer("branches", branches, 1, 3)
    copy = flat_copy(model)
    graph = Graph(copy)
    table = Table(["layer", "channels from", "channels", "dead", "filled", "error before", "error after", "note"])
    readers = [node for node in graph.nodes if kernels.mixes_channels(node.layer)]
    measured = _mean_squares(copy, readers, data)
    for node in reversed(readers):  # a producer gets its columns before its own rows are looked at
        power = measured[node.layer.name]
        dead = np.flatnonzero(power == 0)
        if not len(dead):
            continue
        path = _path(graph, node)
        if isinstance(path, str):
            table.add(node.layer.name, "-", len(power), len(dead), 0, 0.0, 0.0, f"left alone: {path}")
            continue
        filled, before, after = _fill(path, dead, power, branches)
        table.add(node.layer.name, path.producer.name, len(power), len(dead), filled, before, after, "")
    return Prepared(copy, table)


def split_rows(
    rows: np.ndarray, power: np.ndarray, dead: np.ndarray, branches: int
) -> tuple[np.ndarray, list[tuple[int, int, float]], float, float]:
    """Divides the rows of live channels among themselves and the dead ones.

    Args:
      rows: float64 [C, taps, M], what reads each channel.
      power: E[x_c^2] [C], 0 where dead.
      dead: indices of dead channels.
      branches: of the levels.

    Returns:
      the new rows; the copies (dead channel, live channel, scale s) in the order in which they were made; relative
      squared error of the quantized rows, weighted with `power`, before and after.
    """
    live = np.setdiff1d(np.arange(len(rows)), dead)
    if not len(live):
        return rows, [], 0.0, 0.0
    rows = rows.copy()
    rows[dead] = 0
    columns = rows[live].reshape(-1, rows.shape[2])
    deviation = columns.std(0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    alpha = branch_ops.fit_branch_scales(columns / deviation, branches) * deviation
    levels = branch_ops.float_levels(alpha)
    rest = {int(c): rows[c] - _nearest(rows[c], levels) for c in live}
    total = float(sum(power[c] * (rows[c] ** 2).sum() for c in live))
    left = {c: float(power[c] * (r**2).sum()) for c, r in rest.items()}
    before = sum(left.values())
    copies: list[tuple[int, int, float]] = []
    for channel in dead:
        if not left or max(left.values()) <= ENOUGH * total:
            break
        source = max(left, key=lambda c: left[c])
        scale, part = _best_part(rest[source], levels)
        rest[source] = rest[source] - scale * part
        rows[source] -= scale * part
        rows[channel] = part
        left[source] = float(power[source] * (rest[source] ** 2).sum())
        copies.append((int(channel), source, scale))
    return rows, copies, before / max(total, 1e-300), sum(left.values()) / max(total, 1e-300)


def _best_part(rest: np.ndarray, levels: np.ndarray) -> tuple[float, np.ndarray]:
    """(s, v [taps, M]) with v made of levels, that leave little of rest - s v."""
    best, least = (0.0, np.zeros_like(rest)), float((rest**2).sum())
    for scale in _STARTS:
        for _ in range(_ROUNDS):
            part = _nearest(rest / scale, levels)
            product = float((rest * part).sum())
            if product <= 0:
                break
            scale = product / float((part**2).sum())
            error = float(((rest - scale * part) ** 2).sum())
            if error < least:
                best, least = (scale, part), error
    return best


def _nearest(rows: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The level [S, M] nearest to each weight [..., M]."""
    best, least = np.broadcast_to(levels[0], rows.shape), np.abs(rows - levels[0])
    for level in levels[1:]:
        distance = np.abs(rows - level)
        best, least = np.where(distance < least, level, best), np.minimum(distance, least)
    return best


def _mean_squares(model: keras.Model, readers: list[Any], data: Any) -> dict[str, np.ndarray]:
    """{reader: mean square of each channel of its input over the data, float64 [C]}."""
    batches = Batches(data, model)
    if not readers:
        return {}
    reads = keras.Model(model.inputs, [inputs(node)[0] for node in readers])
    sums: list[Any] = [0.0] * len(readers)
    count = 0
    for batch in batches.read("mean squares of the channels"):
        for i, x in enumerate(tf.nest.flatten(reads(batch if len(batch) > 1 else batch[0], training=False))):
            flat = tf.cast(tf.reshape(x, [-1, x.shape[-1]]), tf.float64)
            sums[i] = sums[i] + tf.reduce_mean(flat**2, 0).numpy() * len(x)
        count += len(batch[0])
    return {node.layer.name: total / count for node, total in zip(readers, sums, strict=True)}


def _path(graph: Graph, reader: Any) -> _Path | str:
    """The way of the reader's channels, or why none may be filled."""
    way = _back_to_producer(graph, reader)
    if isinstance(way, str):
        return way
    weighted = [layer for layer in way if kernels.mixes_channels(layer) or _per_channel(layer)]
    scaled = weighted[0]  # the nearest to the reader: a copy's scale goes into its weights
    crossed = way[: way.index(scaled) + 1]
    if not all(_is_homogeneous(layer) for layer in crossed) or not _scalable(scaled):
        return f"no factor may pass from {scaled.name} to it"
    return _Path(way[-1], weighted[-2::-1], scaled, reader.layer)


def _back_to_producer(graph: Graph, reader: Any) -> list[Any] | str:
    """The layers from the one before the reader back to the one that makes its channels, or why there is no way."""
    way: list[Any] = []
    node = reader
    while True:
        if len(graph.calls(node.layer)) > 1:
            return f"{node.layer.name} is called several times"
        if node is not reader:
            if not _passes(node.layer):
                return f"{node.layer.name} ({_type_or_softmax(node.layer)}) is on the way"
            way.append(node.layer)
            if kernels.mixes_channels(node.layer):
                return way
        node = channels.before(graph, node)
        if isinstance(node, channels.Blocked):
            return node.reason


def _passes(layer: Any) -> bool:
    """Whether each channel behind the layer comes from one channel before it, or the layer makes the channels."""
    if _type_or_softmax(layer) == "softmax":  # of all channels together
        return False
    weighted = kernels.mixes_channels(layer) or _per_channel(layer)
    return weighted or isinstance(layer, L.Activation) or channels.crossing(layer) in ("linear", "relu", "relu6")


def _type_or_softmax(layer: Any) -> str:
    softmax = roles.activation_name(getattr(layer, "activation", None)) == "softmax"
    return "softmax" if softmax else type(layer).__name__


def _is_homogeneous(layer: Any) -> bool:
    """Whether a factor above 0 passes the layer's activation, or the layer where it is one."""
    if roles.activation_name(getattr(layer, "activation", None)) not in ("linear", "relu"):
        return False
    return channels.crossing(layer) != "relu6"


def _per_channel(layer: Any) -> bool:
    """Layers with weights of their own for each channel."""
    if isinstance(layer, L.BatchNormalization):
        return batch_norm.over_channels(layer, len(layer.input_shape))
    return kernels.is_depthwise(layer) and layer.depth_multiplier == 1


def _scalable(layer: Any) -> bool:
    """Whether a factor on the layer's output can be put into its weights."""
    return not isinstance(layer, L.BatchNormalization) or bool(layer.scale)


def _fill(path: _Path, dead: np.ndarray, power: np.ndarray, branches: int) -> tuple[int, float, float]:
    """Copies the channels along the path; (number of copies, error before, after)."""
    kernel, *bias = path.reader.get_weights()
    rows = kernels.rows(kernel).astype(np.float64)
    rows, copies, before, after = split_rows(rows, power, dead, branches)
    path.reader.set_weights([kernels.from_rows(rows, kernel.shape), *bias])
    channels, sources, scales = (list(v) for v in zip(*copies, strict=True)) if copies else ([], [], [])
    for layer in (path.producer, *path.between):
        weights = layer.get_weights()
        # A batch norm's statistics, behind gamma and beta, are those of its input.
        scaled = 1 + bool(layer.center) if isinstance(layer, L.BatchNormalization) else len(weights)
        for i, w in enumerate(weights):
            # A depthwise kernel is (h, w, C, 1), everything else has its output channels last.
            w = w[..., 0] if kernels.is_depthwise(layer) and w.ndim == 4 else w
            w[..., channels] = w[..., sources] * (
                np.asarray(scales, np.float32) if layer is path.scaled and i < scaled else 1
            )
        layer.set_weights(weights)
    return len(copies), before, after
