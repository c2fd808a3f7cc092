"""The curve from float weight to quantized weight of a layer: as numbers, and drawn on matplotlib axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_dbq.quantizers import IntegerWeights, TernaryWeights

_CHANNELS = 4  # whose staircases are drawn


def draw(left: Any, right: Any, weights: TernaryWeights) -> None:
    """Staircases of a layer's first channels on one pair of axes, how many weights each level has on the other."""
    for channel in range(min(_CHANNELS, weights.scales.shape[1])):
        left.plot(*staircase(weights.scales[:, channel], weights.thresholds[:, channel]))
    left.set(title="staircases of the first channels", xlabel="float weight", ylabel="quantized weight")
    right.bar(*level_shares(weights.codes))
    right.set(title="weights by their codes", ylabel="share")


def draw_linear(left: Any, right: Any, weights: IntegerWeights) -> None:
    """As `draw`, of a layer on a linear grid: one channel, because all look alike but for their scale."""
    top = 2 ** (weights.bits - 1) - 1
    left.plot(*linear_staircase(float(weights.scale[0]), top))
    left.set(title="staircase of the first channel", xlabel="float weight", ylabel="quantized weight")
    counts = np.bincount(weights.values.ravel().astype(int) + top, minlength=2 * top + 1)
    right.stairs(counts / weights.values.size, np.arange(-top, top + 2) - 0.5, fill=True)
    right.set(title="weights by their integers", ylabel="share")


def linear_staircase(scale: float, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Corners of a staircase with the levels n * scale, |n| <= top; x, y: float [4 * top + 2]."""
    levels = np.arange(-top, top + 1)
    corners = np.repeat((levels[1:] - 0.5) * scale, 2)
    reach = 1.1 * top * scale
    return np.concatenate([[-reach], corners, [reach]]), np.repeat(levels * scale, 2)


def staircase(scales: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of one channel's staircase, float weight -> quantized weight.

    Args:
      scales: float [B].  thresholds: float [3**B - 1], ascending; infinite where a level is never reached.

    Returns:
      x, y, float [2 * levels that are reached], a little beyond the outer thresholds.
    """
    codes = np.stack(np.meshgrid(*[[-1, 0, 1]] * len(scales), indexing="ij"), -1).reshape(-1, len(scales))
    levels = np.sort(codes @ scales)
    finite = np.isfinite(thresholds)
    reach = 1.5 * max(np.abs(thresholds[finite]).max(), np.abs(levels).max())
    first, last = np.flatnonzero(finite)[[0, -1]]
    corners = np.repeat(thresholds[first : last + 1], 2)
    return np.concatenate([[-reach], corners, [reach]]), np.repeat(levels[first : last + 2], 2)


def level_shares(codes: np.ndarray) -> tuple[list[str], np.ndarray]:
    """(names such as "+0", share of weights) of all codes [B, ...], from all -1 to all +1."""
    branches = len(codes)
    index = np.tensordot(3 ** np.arange(branches)[::-1], codes.astype(int) + 1, 1).ravel()
    names = ["".join("-0+"[number // 3**b % 3] for b in reversed(range(branches))) for number in range(3**branches)]
    return names, np.bincount(index, minlength=3**branches) / index.size
