"""Copies of pictures that show the same: shifted, and mirrored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def shifted(pictures: np.ndarray, mirror: bool, seed: Sequence[int]) -> np.ndarray:
    """Each picture shifted by up to an eighth of its size, what comes in at the edges is its own mirror image.

    Args:
      pictures: float32 [N, H, W, C].  mirror: half of them are mirrored left to right, too.  seed: of what is drawn.
    """
    rng = np.random.default_rng(seed)
    count, height, width, _ = pictures.shape
    rows, columns = height // 8, width // 8
    padded = np.pad(pictures, ((0, 0), (rows, rows), (columns, columns), (0, 0)), mode="symmetric")
    down, right = rng.integers(0, 2 * rows + 1, (count,)), rng.integers(0, 2 * columns + 1, (count,))
    flipped = rng.integers(0, 2, (count,))
    result = np.empty_like(pictures)
    for i in range(count):
        window = padded[i, down[i] : down[i] + height, right[i] : right[i] + width]
        result[i] = window[:, ::-1] if mirror and flipped[i] else window
    return result
