"""Activation ranges of a float network evened out, so that all channels of a tensor make use of its whole 8-bit grid.

A TFLite tensor of activations has one scale and one zero point for all channels. What a channel is multiplied with, the
scales of the weights before it undo, one per channel, and the weights behind it; so its own grid is free.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from keras_dbq import _checks
from keras_dbq._table import Table
from keras_dbq.compat import check_keras_model, keras, tf
from keras_dbq.network import kernels
from keras_dbq.prepare import pairs
from keras_dbq.prepare.folding import fold_batch_norms
from keras_dbq.prepare.pairs import Pair
from keras_dbq.prepare.result import Prepared

L = keras.layers
# choice: no channel is stretched further; one that was hardly ever active may be larger on other pictures.
_LARGEST_FACTOR = 32.0


class _Seen(NamedTuple):
    """Each channel of a tensor over the data, behind its activation; float64 [C].

    ceiling: bool [C], whether ReLU6 clipped it.
    """

    low: np.ndarray
    high: np.ndarray
    variance: np.ndarray
    ceiling: np.ndarray


class _Moved(NamedTuple):
    """x becomes factor (x - offset), channel by channel; float64 [C]."""

    factor: np.ndarray
    offset: np.ndarray


class _Plan(NamedTuple):
    """What is done to a pair, the step of the tensor between then, and the words for it."""

    moved: _Moved
    step: float
    note: str


def even_ranges(
    model: keras.Model, data: Any, *, bits: int = 8, activation_bits: int = 8, headroom: float = 1.0
) -> Prepared:
    """Gives every channel of a tensor the whole range of the tensor, where layers before and behind it can undo that.

    For weights with one scale per channel, such as `FATScheme(mode="vector")` has: the rounding of activations is what
    an 8-bit network of few channels loses most by, and a channel that fills a tenth of its tensor's range is rounded
    ten times as coarsely as it could be. (One threshold per weight tensor wants `equalize` instead.)

    Batch norms are folded first (`fold_batch_norms`). Then (derived), for each pair of kernel layers with nothing
    between them that mixes channels:
    (1) Channel c becomes s_c (x_c - o_c), which the filter and the bias before it make, and the weights and the bias
    behind it undo. s_c brings the largest value on `data` to the end of the range; behind ReLU6 that is 6, so that a
    channel that was clipped still is, and where it was. o_c is the least value, for a channel that never reaches 0 and
    a layer behind that has no padding. A depthwise layer behind it pays nothing for s_c. A layer that mixes channels
    gets weights that differ more in size: it is done where that costs less than the rounding of activations, by the
    variances of the channels and uniform errors of one step.
    (2) Channels that are always 0 (see `fill_dead_channels`) become copies of live ones. n channels that differ in
    nothing but that their roundings are shifted against each other by 1/n of a step have a mean that is rounded n times
    as finely: floor(n x + 1/2) = sum_j floor(x + 1/2 + (2j + 1 - n) / (2n)), j = 0..n-1 (source: Hermite's identity). A
    shift is a part of a bias. The copies go where they lessen the error of the layer that reads them most.

    Other pictures than `data` may be clipped where they exceed its extremes, as with ranges calibrated on it, and may
    wake a channel that was 0; so give all pictures. Apart from that and float rounding the outputs stay; copies change
    them by less than a step of their grid does.

    Args:
      model: float tf_keras model; stays untouched. Train, `distill` and compare with the prepared model, because hidden
        activations are other ones than here.
      data: pictures as for `quantize_model`, read once, batch by batch.
      bits: of the weights, 2 to 8.  activation_bits: 4 to 8.
      headroom: how much larger than on `data` a channel may become before it is clipped, at least 1; so much of the
        range is left free.

    Raises:
      TypeError, ValueError: not a float Keras model, bad data, numbers out of range.
    """
    check_keras_model(model, "even_ranges")
    bits = _checks.integer("bits", bits, 2, 8)
    activation_bits = _checks.integer("activation_bits", activation_bits, 4, 8)
    headroom = _checks.number("headroom", headroom, 1.0, 1e6)
    copy = fold_batch_norms(model)
    found = pairs.found(copy, kernels.is_kernel_layer)
    known = {name: pair for name, pair in found.items() if isinstance(pair, Pair)}
    seen = _seen(copy, known, data)
    plans = {name: _plan(pair, seen[name], headroom, bits, activation_bits) for name, pair in known.items()}
    steps = {name: plan.step for name, plan in plans.items()}
    for name, pair in known.items():
        _apply(pair, plans[name])
    copied = {chain[-1].first.name: _refine(chain, seen, steps) for chain in _chains(known)}
    table = Table(["layer", "next", "rule", "channels", "narrowest", "copies", "note"])
    for name, why in found.items():
        if isinstance(why, str):
            table.add(name, "-", "-", 0, 1.0, 0, f"left alone: {why}")
            continue
        pair = why
        shares = _shares(seen[name])
        narrowest = float(shares[shares > 0].min(initial=1.0))
        told = (len(shares), narrowest, copied.get(name, 0), plans[name].note)
        table.add(name, pair.following.name, pair.rule, *told)
    return Prepared(copy, table)


def _plan(pair: Pair, seen: _Seen, headroom: float, bits: int, activation_bits: int) -> _Plan:
    """What is done to a pair."""
    codes, moved = 2**activation_bits - 1, _moved(pair, seen, headroom)
    stays = _Moved(np.ones_like(seen.high), np.zeros_like(seen.high))
    (noise, step), (old_noise, old_step) = (_noise(pair, seen, m, bits, codes) for m in (moved, stays))
    if kernels.mixes_channels(pair.following) and noise >= old_noise:
        return _Plan(stays, old_step, "left alone: its reader's weights would lose more")
    offsets = int((moved.offset != 0).sum())
    note = f"up to {moved.factor.max(initial=1.0):.1f} times" + (f", {offsets} with an offset" if offsets else "")
    return _Plan(moved, step, note)


def _seen(model: keras.Model, known: dict[str, Pair], data: Any) -> dict[str, _Seen]:
    def look(pair: Pair, y: Any) -> tuple[Any, ...]:
        """(least, largest, and of each picture the means of value and square behind the activation), per channel."""
        shown = _clipped(y, pair.rule)
        return tf.reduce_min(y, [0, 1]), tf.reduce_max(y, [0, 1]), tf.reduce_mean(shown, 1), tf.reduce_mean(shown**2, 1)

    low, high, mean, square = ([np.zeros(0)] * len(known) for _ in range(4))
    count = 0
    for batch in pairs.looked_at(model, list(known.values()), data, "ranges of the channels", look):
        for i, (least, largest, means, squares) in enumerate(batch):
            low[i] = np.minimum(low[i], least) if count else least
            high[i] = np.maximum(high[i], largest) if count else largest
            mean[i] = mean[i] + means.sum(0) if count else means.sum(0)
            square[i] = square[i] + squares.sum(0) if count else squares.sum(0)
        count += len(means)
    result = {}
    for i, (name, pair) in enumerate(known.items()):
        variance = np.maximum(square[i] / count - (mean[i] / count) ** 2, 0.0)
        clipped = np.logical_and(pair.rule == "relu6", high[i] > pairs.CEILING)
        least, largest = (np.asarray(_clipped(end[i], pair.rule)) for end in (low, high))
        result[name] = _Seen(least, largest, variance, clipped)
    return result


def _clipped(y: Any, rule: str) -> Any:
    """A tensor or an array behind its activation."""
    if rule == "linear":
        return y
    return tf.minimum(tf.nn.relu(y), pairs.CEILING) if rule == "relu6" else tf.nn.relu(y)


def _moved(pair: Pair, seen: _Seen, headroom: float) -> _Moved:
    """Factors and offsets that bring each channel to the ends of the range."""
    width = seen.high - seen.low
    if _takes_offsets(pair):
        if pair.rule == "linear":
            offset = (seen.low + seen.high) / 2
        else:
            offset = np.maximum(seen.low - (headroom - 1) * width, 0.0)
    else:
        offset = np.zeros_like(width)
    if pair.rule == "relu6":
        # A channel that was clipped at 6 has to be clipped there again, so its offset decides its factor.
        offset = np.minimum(offset, pairs.CEILING * (1 - 1 / _LARGEST_FACTOR))
        top, ceiling = pairs.CEILING, pairs.CEILING - offset
        reach = np.where(seen.ceiling, ceiling, np.minimum(headroom * (seen.high - offset), ceiling))
    else:
        reach = np.maximum(np.abs(seen.low - offset), np.abs(seen.high - offset))
        top = reach.max(initial=0.0)
    alive = reach > 0
    factor = np.where(alive, np.minimum(top / np.where(alive, reach, 1.0), _LARGEST_FACTOR), 1.0)
    return _Moved(factor, np.where(alive, offset, 0.0))


def _takes_offsets(pair: Pair) -> bool:
    """Whether an offset of a channel is the same offset for every place of what reads it."""
    padded = any(type(layer) is L.ZeroPadding2D for layer in pair.between)
    reader = pair.following
    if not isinstance(reader, L.Dense):
        padded = padded or (reader.padding != "valid" and tuple(reader.kernel_size) != (1, 1))
    return bool(not padded and pair.first.use_bias and reader.use_bias)


def _extremes(seen: _Seen, moved: _Moved) -> tuple[float, float]:
    """Largest and smallest value of the tensor; 0 lies within."""
    low, high = (moved.factor * (end - moved.offset) for end in (seen.low, seen.high))
    return max(float(high.max(initial=0.0)), 0.0), min(float(low.min(initial=0.0)), 0.0)


def _shares(seen: _Seen) -> np.ndarray:
    """Of the tensor's range, what each channel makes use of."""
    width = max(float(seen.high.max(initial=0.0)), 0.0) - min(float(seen.low.min(initial=0.0)), 0.0)
    return np.asarray((seen.high - seen.low) / max(width, np.finfo(np.float64).tiny))


def _noise(pair: Pair, seen: _Seen, moved: _Moved, bits: int, codes: int) -> tuple[float, float]:
    """(error of what a layer that mixes channels gives, but for a factor: by its inputs' steps and by its weights; step
    of the inputs).

    derived: uniform errors have a twelfth of the square of the step. An offset of a channel that is as large on average
    meets the reader's bias, so of the inputs' power the variance counts.
    """
    rows = kernels.rows(pair.following.get_weights()[0].astype(np.float64))  # [C, taps, M]
    top, bottom = _extremes(seen, moved)
    step = (top - bottom) / codes
    scaled = rows / moved.factor[:, None, None]
    grid = np.abs(scaled).max((0, 1)) / (2 ** (bits - 1) - 1)  # of each output channel
    power = rows.shape[1] * (moved.factor**2 * seen.variance).sum()
    return float(step**2 * (scaled**2).sum() + (grid**2).sum() * power), step


def _apply(pair: Pair, plan: _Plan) -> None:
    moved = plan.moved
    if moved.offset.any():
        kernel, bias = (w.astype(np.float64) for w in pair.first.get_weights())
        pair.first.set_weights([kernel, bias - moved.offset])
        kernel, bias = (w.astype(np.float64) for w in pair.following.get_weights())
        heard = moved.offset[:, None, None] * kernels.rows(kernel)
        if kernels.is_depthwise(pair.following):
            bias = bias + heard.sum(1).reshape(-1)
        else:
            bias = bias + heard.sum((0, 1))
        pair.following.set_weights([kernel, bias])
    pairs.apply(pair, moved.factor)


def _chains(known: dict[str, Pair]) -> list[list[Pair]]:
    """From each layer that mixes channels, through depthwise ones, to the next one that does; readers first to last."""
    before = {pair.following.name: pair for pair in known.values()}
    chains = []
    for pair in known.values():
        chain = [pair]
        while kernels.is_depthwise(chain[0].first) and chain[0].first.name in before:
            chain.insert(0, before[chain[0].first.name])
        layers = [link.first for link in chain]
        simple = all(layer.use_bias for layer in layers) and all(layer.depth_multiplier == 1 for layer in layers[1:])
        if simple and kernels.mixes_channels(pair.following) and kernels.mixes_channels(layers[0]):
            chains.append(chain)
    return chains


def _refine(chain: list[Pair], seen: dict[str, _Seen], steps: dict[str, float]) -> int:
    """Makes the dead channels of a chain copies of live ones; how many."""
    last = chain[-1]
    high = seen[last.first.name].high
    dead = np.flatnonzero(high <= 0) if last.rule != "linear" else np.zeros(0, int)
    groups = copies(_heard(chain, steps), dead)
    for layer in (link.first for link in chain):
        weights = layer.get_weights()
        step = steps[layer.name]
        for members in groups:
            for channel in members:
                for w in (weights[0][..., 0] if kernels.is_depthwise(layer) else weights[0], weights[1]):
                    w[..., channel] = w[..., members[0]]
        for members in groups:
            for j, channel in enumerate(members):
                weights[1][channel] += step * (2 * j + 1 - len(members)) / (2 * len(members))
        layer.set_weights(weights)
    kernel, *bias = last.following.get_weights()
    for members in groups:
        kernel[..., members, :] = kernel[..., members[:1], :] / len(members)
    last.following.set_weights([kernel, *bias])
    return sum(len(members) - 1 for members in groups)


def _heard(chain: list[Pair], steps: dict[str, float]) -> np.ndarray:
    """What the rounding of each channel adds to the squared error of the chain's reader, but for a factor; [C]."""
    gain = (kernels.rows(chain[-1].following.get_weights()[0].astype(np.float64)) ** 2).sum((1, 2))
    total = np.zeros(len(gain))
    for link in reversed(chain):
        total += steps[link.first.name] ** 2 * gain
        if link is not chain[0]:
            gain = gain * (kernels.rows(link.first.get_weights()[0].astype(np.float64)) ** 2).sum((1, 2))
    return total


def copies(heard: np.ndarray, dead: np.ndarray) -> list[list[int]]:
    """Groups of channels, a live one and the dead ones that become copies of it, that leave the least error.

    Args:
      heard: error that each channel causes, [C]; of n channels alike it is 1 / n^2 of that.
      dead: indices of the channels to give away.
    """
    size = np.where(np.isin(np.arange(len(heard)), dead), 0, 1)
    groups: dict[int, list[int]] = {}
    for channel in dead:
        gained = np.where(size > 0, heard * (1 / np.maximum(size, 1) ** 2 - 1 / (size + 1) ** 2), 0.0)
        source = int(np.argmax(gained))
        if gained[source] <= 0:
            break
        groups.setdefault(source, [source]).append(int(channel))
        size[source] += 1
    return list(groups.values())


__all__ = ["even_ranges"]
