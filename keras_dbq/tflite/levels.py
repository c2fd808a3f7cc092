"""From the integers of one weight tensor to branches: which (p, q), which trits. A function of the integers alone.

derived: a channel of two branches holds w = p*b1 + q*b2 with b1, b2 in {-1, 0, 1}, p > q >= 0 and p + q <= 127, so its
magnitudes lie in {0, p, q, p + q, p - q}; one branch is the case q = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from keras_dbq.limits import TOP_LEVEL

TRITS_PER_BYTE = 5
LARGEST_CODE = 3**TRITS_PER_BYTE - 1  # 242
_POWERS = 3 ** np.arange(TRITS_PER_BYTE)
_NOT_A_LEVEL = 99


@dataclass(frozen=True)
class Branches:
    """Codes of one layer: weight[k, m] = sum over b of scales[b, m] * codes[b, k, m]."""

    codes: np.ndarray  # int8 [B, K, M], values -1, 0, 1
    scales: np.ndarray  # uint8 [B, M]: p in row 0, q in row 1

    @property
    def sparsity(self) -> list[float]:
        """Share of zero codes of each branch."""
        return [float(np.mean(plane == 0)) for plane in self.codes]


def find_branches(weights: np.ndarray) -> Branches | None:
    """int8 [K, M] (one channel a column) -> Branches, or None when more than two branches would be needed.

    choice: the fewest branches that hold every channel. One branch: p is the channel's magnitude, 127 where the
    channel is all zero. Two branches: of all (p, q) that hold the channel's magnitudes, those with p + q = 127 first,
    then the fewest non-zero codes, then the largest p, then the smallest q. A level with two spellings (p = 2q, where
    q = p - q) takes the one with fewer non-zero codes.

    Equal integers give equal codes, whoever wrote the file.
    """
    magnitude = np.abs(weights.astype(np.int16))
    if magnitude.size == 0 or magnitude.max() > TOP_LEVEL:
        return None
    counts = _histogram(magnitude)
    distinct = (counts[:, 1:] > 0).sum(1)
    if distinct.max() <= 1:
        p = np.where(distinct == 1, magnitude.max(0), TOP_LEVEL)
        return Branches(np.sign(weights)[None].astype(np.int8), p[None].astype(np.uint8))
    if distinct.max() > 4:
        return None
    pairs = _choose_pairs(counts)
    return None if pairs is None else _encode_two(weights, magnitude, pairs)


def _histogram(magnitude: np.ndarray) -> np.ndarray:
    """[K, M] in 0..127 -> counts [M, 128]."""
    channels = magnitude.shape[1]
    flat = magnitude.astype(np.int64) + 128 * np.arange(channels)
    return np.bincount(flat.ravel(), minlength=128 * channels).reshape(channels, 128)


@lru_cache(maxsize=1)
def _pair_table() -> tuple[np.ndarray, np.ndarray]:
    """All (p, q) in order of preference [P, 2], and the non-zero codes that each level costs [P, 128]."""
    pairs = [(p, q) for p in range(1, 128) for q in range(0, min(p - 1, 127 - p) + 1)]
    pairs.sort(key=lambda pair: (sum(pair) != TOP_LEVEL, -pair[0], pair[1]))
    cost = np.full((len(pairs), 128), _NOT_A_LEVEL, np.int64)
    for row, (p, q) in zip(cost, pairs, strict=True):
        row[p + q], row[p - q] = 2, 2
        row[p] = row[q] = 1
        row[0] = 0
    return np.array(pairs), cost


def _choose_pairs(counts: np.ndarray) -> np.ndarray | None:
    """counts [M, 128] -> the preferred (p, q) of each channel [M, 2], or None when one channel has none."""
    pairs, cost = _pair_table()
    chosen = np.zeros((len(counts), 2), np.int64)
    unusable = cost == _NOT_A_LEVEL
    for channel, count in enumerate(counts):
        present = np.flatnonzero(count)
        usable = np.flatnonzero(~unusable[:, present].any(1))
        if not len(usable):
            return None
        full = usable[pairs[usable].sum(1) == TOP_LEVEL]
        candidates = full if len(full) else usable
        nonzero = cost[candidates][:, present] @ count[present]
        chosen[channel] = pairs[candidates[np.argmin(nonzero)]]  # argmin takes the first: largest p, smallest q
    return chosen


def _encode_two(weights: np.ndarray, magnitude: np.ndarray, pairs: np.ndarray) -> Branches:
    """Codes [2, K, M] of weights [K, M] for (p, q) [M, 2]; the later line wins where levels coincide."""
    p, q = pairs[:, 0], pairs[:, 1]
    first, second = np.zeros(weights.shape, np.int8), np.zeros(weights.shape, np.int8)
    for level, b1, b2 in ((p + q, 1, 1), (p - q, 1, -1), (p, 1, 0), (q, 0, 1), (0 * q, 0, 0)):
        here = magnitude == level
        first[here], second[here] = b1, b2
    sign = np.sign(weights)
    return Branches(np.stack([first * sign, second * sign]).astype(np.int8), pairs.T.astype(np.uint8))


def encode_trits(trits: np.ndarray) -> np.ndarray:
    """int8 [B, W] of -1, 0, 1 -> uint8 [B * ceil(W / 5)]: byte i of a plane holds trits 5i .. 5i + 4, base 3."""
    branches, count = trits.shape
    digits = np.ones((branches, -(-count // TRITS_PER_BYTE) * TRITS_PER_BYTE), np.int64)
    digits[:, :count] = trits.astype(np.int64) + 1
    return (digits.reshape(-1, TRITS_PER_BYTE) @ _POWERS).astype(np.uint8)


def decode_trits(codes: np.ndarray, branches: int, count: int) -> np.ndarray:
    """uint8 [B * ceil(count / 5)] -> int8 [B, count].

    Raises:
      ValueError: wrong length, or a byte over 242.
    """
    wanted = branches * -(-count // TRITS_PER_BYTE)
    if codes.size != wanted:
        raise ValueError(f"codes: expected {wanted} bytes for {branches} branches of {count} weights, got {codes.size}")
    if codes.size and codes.max() > LARGEST_CODE:
        raise ValueError(f"codes: expected bytes up to {LARGEST_CODE}, got {codes.max()}")
    digits = codes.astype(np.int64)[:, None] // _POWERS % 3
    return (digits.reshape(branches, -1)[:, :count] - 1).astype(np.int8)
