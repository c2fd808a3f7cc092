"""Pictures in, augmented batches out, for Visual Wake Words; numpy."""

from __future__ import annotations

import numpy as np

from examples.common.augmentation import augmented_batches


def prepare(pictures: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3] -> float32 in [0, 1]."""
    return pictures * np.float32(1 / 255)


batches = augmented_batches(prepare, pad=8)
