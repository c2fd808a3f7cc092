"""Rescaling of filters in a float network, so that one threshold fits all of a layer (FAT; cross-layer equalisation).

The network computes what it computed; only the weights' sizes move from a layer into the one behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_dbq import _checks
from keras_dbq._table import Table
from keras_dbq.compat import check_keras_model, keras, tf
from keras_dbq.network import kernels
from keras_dbq.network.graph import flat_copy
from keras_dbq.prepare import pairs
from keras_dbq.prepare.pairs import Pair
from keras_dbq.prepare.result import Prepared

Rescaled = Prepared  # its name in 0.1
LOCKED_ABOVE = 5.9  # source: FAT: a channel that reached this before ReLU6 may not be scaled
DEAD = 1e-7  # of the largest filter: nothing to gain, and much to divide by


def rescale_depthwise(model: keras.Model, data: Any, *, headroom: float = 1.2) -> Prepared:
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
    copy = flat_copy(model)
    pairs_ = pairs.found(copy, kernels.is_depthwise)

    def factors(pair: Pair, reached: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        return scale_factors(_filter_sizes(pair.first), reached, headroom)

    return Prepared(copy, _rescaled(copy, pairs_, data, factors, 1))


def equalize(model: keras.Model, data: Any, *, headroom: float = 1.2, rounds: int = 1) -> Prepared:
    """Brings filters and the weights that read them to one size in all pairs of layers, for one threshold per tensor.

    source (Nagel et al., ICCV 2019, cross-layer equalisation): with T_k = max|w_k| of the filter of channel k and R_k
    the largest weight that reads it, S_k = sqrt(R_k / T_k) gives both layers the same size in every channel, which is
    the best for the product of their precisions. Filter and bias are multiplied by S_k, what reads the channel is
    divided by it. `rescale_depthwise` looks at T alone and may blow up single R_k / S_k, and at depthwise layers alone.
    derived: with ReLU6 between, channels that reach 5.9 on `data` are locked (S_k = 1) and the others are capped, as in
    `rescale_depthwise`; S_k is relative to the locked channels' mean sizes: sqrt((R_k / mean R) / (T_k / mean T)).
    A filter of zeros takes the factor that makes what reads it as large as the rest. Pairs share layers and are gone
    through in order of execution, `rounds` times.

    What is left alone, `model`, `data`, `headroom` and the errors are as in `rescale_depthwise`; here every Conv2D,
    DepthwiseConv2D and Dense is the first of a pair where it can.

    Args:
      rounds: over all pairs, 1 to 100. More than one made MobileNetV2 with scalar thresholds no better.
    """
    check_keras_model(model, "equalize")
    headroom = _checks.number("headroom", headroom, 1.0, 1e6)
    rounds = _checks.integer("rounds", rounds, 1, 100)
    copy = flat_copy(model)
    pairs_ = pairs.found(copy, kernels.is_kernel_layer)

    def factors(pair: Pair, reached: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        return equalizing_factors(_filter_sizes(pair.first), _reader_sizes(pair.following), reached, headroom)

    return Prepared(copy, _rescaled(copy, pairs_, data, factors, rounds))


def _rescaled(
    copy: keras.Model,
    pairs_: dict[str, Pair | str],
    data: Any,
    factors_of: Callable[[Pair, np.ndarray | None], tuple[np.ndarray, np.ndarray]],
    rounds: int,
) -> Table:
    """Applies the factors of `factors_of(pair, largest value of each channel before ReLU6 or None)`; what was done."""
    table = Table(["layer", "next", "rule", "channels", "locked", "dead", "spread before", "spread after"])
    largest = _largest(copy, [p for p in pairs_.values() if isinstance(p, Pair) and p.rule == "relu6"], data)
    before = {name: _spread(_filter_sizes(p.first)) for name, p in pairs_.items() if isinstance(p, Pair)}
    locked: dict[str, int] = {}
    for _ in range(rounds):
        for name, pair in pairs_.items():
            if isinstance(pair, Pair):
                factors, fixed = factors_of(pair, largest.get(name))
                pairs.apply(pair, factors)
                locked[name] = int(fixed.sum())
                if name in largest:
                    largest[name] = largest[name] * factors
    for name, pair in pairs_.items():
        if isinstance(pair, str):
            table.add(name, "-", f"left alone: {pair}", 0, 0, 0, 1.0, 1.0)
            continue
        sizes = _filter_sizes(pair.first)
        dead = int((sizes <= DEAD * sizes.max()).sum())
        table.add(name, pair.following.name, pair.rule, len(sizes), locked[name], dead, before[name], _spread(sizes))
    return table


def _filter_sizes(layer: Any) -> np.ndarray:
    """T_k = max|w_k| of each output channel; float64 [M]."""
    return kernels.columns(layer, np.abs(layer.get_weights()[0]).astype(np.float64)).max(0)


def _reader_sizes(layer: Any) -> np.ndarray:
    """R_k, the largest weight that reads each input channel; float64 [C]."""
    return kernels.rows(np.abs(layer.get_weights()[0]).astype(np.float64)).max((1, 2))


def _spread(sizes: np.ndarray) -> float:
    """Largest over smallest size, dead filters aside."""
    alive = sizes[sizes > DEAD * sizes.max()]
    return float(alive.max() / alive.min()) if len(alive) else 1.0


def scale_factors(
    sizes: np.ndarray, reached: np.ndarray | None, headroom: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """(S [C], locked [C] bool) of `rescale_depthwise`, from the filters' sizes T [C].

    Args:
      sizes: T_k = max|w_k|.
      reached: X_k, the largest value before ReLU6; None where there is no ceiling.
      headroom: S_k X_k may not exceed 6 / headroom.
    """
    dead, locked = sizes <= DEAD * sizes.max(initial=0), _locked(sizes, reached)
    wanted = sizes[locked & ~dead]
    factors = (wanted.mean() if len(wanted) else sizes.max(initial=0)) / np.where(dead, 1.0, sizes)
    return np.where(dead | locked, 1.0, _capped(factors, reached, headroom)), locked


def equalizing_factors(
    sizes: np.ndarray, reader_sizes: np.ndarray, reached: np.ndarray | None, headroom: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """(S [C], locked [C] bool) of `equalize`, from filter sizes T [C] and the sizes R [C] of what reads them.

    Args:
      reached, headroom: as in `scale_factors`.
    """
    silent, unread = (s <= DEAD * s.max(initial=0) for s in (sizes, reader_sizes))
    locked, alive = _locked(sizes, reached), ~silent & ~unread
    if not alive.any():
        return np.ones(len(sizes)), locked
    anchors = locked & alive if (locked & alive).any() else alive
    first = np.where(silent, 1.0, sizes / sizes[anchors].mean())
    second = np.where(unread, 1.0, reader_sizes / reader_sizes[anchors].mean())
    # A filter of zeros has no size to keep, so the factor makes what reads it as large as the rest; and the other way.
    factors = np.where(silent, second, np.where(unread, 1 / first, np.sqrt(second / first)))
    return np.where(locked, 1.0, _capped(factors, reached, headroom)), locked


def _locked(sizes: np.ndarray, reached: np.ndarray | None) -> np.ndarray:
    return np.zeros(len(sizes), bool) if reached is None else reached > LOCKED_ABOVE


def _capped(factors: np.ndarray, reached: np.ndarray | None, headroom: float) -> np.ndarray:
    """Factors that carry no channel over ReLU6's ceiling."""
    if reached is None:
        return factors
    cap = np.where(reached > 0, pairs.CEILING / (headroom * np.where(reached > 0, reached, 1.0)), np.inf)
    # A channel between the cap and the lock (headroom) must not shrink for it.
    return np.minimum(factors, np.maximum(cap, 1.0))


def _largest(model: keras.Model, wanted: list[Pair], data: Any) -> dict[str, np.ndarray]:
    """{first layer: the largest value of each channel before its activation, over the data}; float64 [C]."""
    found: dict[str, np.ndarray] = {}
    title = "largest values before ReLU6"
    for batch in pairs.looked_at(model, wanted, data, title, lambda _, y: (tf.reduce_max(y, [0, 1]),)):
        for pair, (largest,) in zip(wanted, batch, strict=True):
            found[pair.first.name] = np.maximum(found.get(pair.first.name, -np.inf), largest)
    return found
