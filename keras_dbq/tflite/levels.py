"""From the integers of one weight tensor to branches: which (p, q), which trits. A function of the integers alone.

derived: a channel of two branches holds w = p*b1 + q*b2 with b1, b2 in {-1, 0, 1}, p > q >= 0 and p + q <= 127, so its
magnitudes lie in {0, p, q, p + q, p - q}; one branch is the case q = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from keras_dbq.limits import TOP_LEVEL, TRITS_PER_BYTE

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
    if weights.size == 0:
        return None
    counts = _histogram(weights)
    if counts[:, TOP_LEVEL + 1 :].any():
        return None
    distinct = (counts[:, 1:] > 0).sum(1)
    if distinct.max() <= 1:
        p = np.where(distinct == 1, 1 + np.argmax(counts[:, 1:] > 0, 1), TOP_LEVEL)
        return Branches(np.sign(weights)[None].astype(np.int8), p[None].astype(np.uint8))
    if distinct.max() > 4:
        return None
    pairs = _choose_pairs(counts)
    return None if pairs is None else _encode_two(weights, pairs)


def _histogram(weights: np.ndarray) -> np.ndarray:
    """int8 [K, M] -> counts [M, 129] of the magnitudes 0..128."""
    rows = weights.T.view(np.uint8)  # a negative weight is 256 more
    counts = np.stack([np.bincount(row, minlength=256) for row in rows])  # row by row: each stays in the cache
    folded = counts[:, :129].copy()
    folded[:, 1:128] += counts[:, :128:-1]
    return folded


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


def _encode_two(weights: np.ndarray, pairs: np.ndarray) -> Branches:
    """Codes [2, K, M] of weights [K, M] for (p, q) [M, 2]; the later line wins where levels coincide."""
    p, q = pairs[:, 0], pairs[:, 1]
    channels = np.arange(len(pairs))
    codes_of = np.zeros((2, len(pairs), 256), np.int8)  # by channel and weight, a negative weight counted from the end
    for level, b1, b2 in ((p + q, 1, 1), (p - q, 1, -1), (p, 1, 0), (q, 0, 1), (0 * q, 0, 0)):
        codes_of[:, channels, level] = np.array([[b1], [b2]])
        codes_of[:, channels, -level] = np.array([[-b1], [-b2]])
    codes = np.empty((2, *weights.shape[::-1]), np.int8)
    for m, row in enumerate(weights.T.view(np.uint8)):  # row by row: each stays in the cache
        np.take(codes_of[0, m], row, out=codes[0, m])
        np.take(codes_of[1, m], row, out=codes[1, m])
    return Branches(codes.transpose(0, 2, 1), pairs.T.astype(np.uint8))


def encode_trits(trits: np.ndarray) -> np.ndarray:
    """int8 [B, W] of -1, 0, 1 -> uint8 [B * ceil(W / 5)]: byte i of a plane holds trits 5i .. 5i + 4, base 3."""
    branches, count = trits.shape
    digits = np.ones((branches, -(-count // TRITS_PER_BYTE) * TRITS_PER_BYTE), np.uint8)
    np.add(trits, 1, out=digits[:, :count], casting="unsafe")
    digits = digits.reshape(-1, TRITS_PER_BYTE)
    codes = digits[:, -1].copy()
    for place in range(TRITS_PER_BYTE - 2, -1, -1):  # Horner's rule; at most 242, so it fits
        codes *= 3
        codes += digits[:, place]
    return codes


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
