"""Random crops and mirroring of uint8 picture batches, and epochs of batches made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np


def crop_and_flip(pictures: np.ndarray, rng: np.random.Generator, pad: int, flip: bool) -> np.ndarray:
    """Zero padding by `pad` pixels and a random crop of the old size, mirrored with probability 1/2 where `flip`.

    pictures: uint8 [N, H, W, C]. Returns the same shape and type.
    """
    count, height, width, _ = pictures.shape
    padded = np.pad(pictures, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    offsets = rng.integers(0, 2 * pad + 1, (count, 2))
    mirrored = rng.random(count) < (0.5 if flip else 0.0)
    result = np.empty_like(pictures)
    for i, (top, left) in enumerate(offsets):
        crop = padded[i, top : top + height, left : left + width]
        result[i] = crop[:, ::-1] if mirrored[i] else crop
    return result


def augmented_batches(prepare: Callable[[np.ndarray], np.ndarray], pad: int) -> Callable[..., Iterator]:
    """The `batches` function of an example: full batches of one epoch.

    Order and augmentation follow from (seed, epoch) alone, so that an interrupted run can be resumed exactly.
    """

    def batches(
        x: np.ndarray, y: np.ndarray, batch_size: int, seed: int, epoch: int, flip: bool = True
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(x))
        for i in range(0, len(x) - batch_size + 1, batch_size):
            chosen = order[i : i + batch_size]
            yield prepare(crop_and_flip(x[chosen], rng, pad, flip)), y[chosen].astype(np.int32)

    return batches
