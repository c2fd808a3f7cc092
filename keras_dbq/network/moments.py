"""What a layer's kernel sees, and its first and second moments, which stand for the data."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from keras_dbq.compat import keras
from keras_dbq.network import kernels

# choice: so many output positions of a layer are looked at, drawn evenly from all pictures.
POSITIONS = 64_000


@dataclass
class Moments:
    """Sums over positions p of inputs x [K] and wanted outputs y [M], in float64."""

    count: int
    x: np.ndarray  # [K]
    y: np.ndarray  # [M]
    xx: np.ndarray  # [K, K]
    xy: np.ndarray  # [K, M]
    yy: np.ndarray  # [M]

    @classmethod
    def zeros(cls, inputs: int, outputs: int) -> Moments:
        shapes = (inputs,), (outputs,), (inputs, inputs), (inputs, outputs), (outputs,)
        return cls(0, *(np.zeros(shape) for shape in shapes))

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """x: [P, K].  y: [P, M]."""
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        self.count += len(x)
        self.x += x.sum(0)
        self.y += y.sum(0)
        self.xx += x.T @ x
        self.xy += x.T @ y
        self.yy += (y**2).sum(0)

    def __add__(self, other: Moments) -> Moments:
        """Of the positions of both."""
        return Moments(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def centred(self, centre: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(G, b, power of y), means taken off where an offset per channel is free."""
        mean_x, mean_y = (self.x / self.count, self.y / self.count) if centre else (0 * self.x, 0 * self.y)
        gram = self.xx / self.count - np.outer(mean_x, mean_x)
        return gram, self.xy / self.count - np.outer(mean_x, mean_y), self.yy / self.count - mean_y**2


def patches(layer: keras.layers.Layer, x: np.ndarray, picked: np.ndarray) -> np.ndarray:
    """What the layer's kernel sees at some of its output positions.

    Args:
      layer: Conv2D, DepthwiseConv2D, or Dense (each row of its input is a position).
      x: [N, H, W, C], or [..., K] of a Dense layer.
      picked: which of the N * H' * W' positions, int64 [P].

    Returns:
      [P, taps * C], channels fastest, in the order of the kernel's rows.
    """
    if isinstance(layer, keras.layers.Dense):
        return x.reshape(-1, x.shape[-1])[picked]
    padded, (height, width) = _padded(layer, x)
    n, i, j = np.unravel_index(picked, (len(x), height, width))
    (down, right), (tall, wide) = layer.strides, layer.dilation_rate
    taps = [
        padded[n, i * down + a * tall, j * right + c * wide]
        for a in range(layer.kernel_size[0])
        for c in range(layer.kernel_size[1])
    ]
    return np.stack(taps, 1).reshape(len(picked), -1)


def groups(layer: keras.layers.Layer, inputs: int) -> int:
    """How many groups of a layer's channels have inputs of their own; `inputs`: number of its input channels."""
    return inputs if kernels.is_depthwise(layer) else getattr(layer, "groups", 1)


def by_group(layer: keras.layers.Layer, seen: np.ndarray, inputs: int) -> np.ndarray:
    """Patches [P, taps * C] as [groups, P, K], K the rows of the kernel's columns."""
    count = groups(layer, inputs)
    if count == 1:
        return seen[None]
    parts = seen.reshape(len(seen), -1, count, inputs // count)
    return parts.transpose(2, 0, 1, 3).reshape(count, len(seen), -1)


def positions(layer: keras.layers.Layer, x: np.ndarray) -> int:
    """Output positions of a batch."""
    if isinstance(layer, keras.layers.Dense):
        return int(np.prod(x.shape[:-1]))
    return len(x) * int(np.prod([_length(layer, axis, x.shape[axis + 1])[0] for axis in (0, 1)]))


def _length(layer: Any, axis: int, size: int) -> tuple[int, tuple[int, int]]:
    """(output length, zeros before and after) of one axis. source: TensorFlow's SAME puts the odd one behind."""
    reach = (layer.kernel_size[axis] - 1) * layer.dilation_rate[axis] + 1
    if layer.padding == "valid":
        return (size - reach) // layer.strides[axis] + 1, (0, 0)
    length = -(-size // layer.strides[axis])
    total = max((length - 1) * layer.strides[axis] + reach - size, 0)
    return length, (total // 2, total - total // 2)


def _padded(layer: Any, x: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    (height, rows), (width, columns) = (_length(layer, axis, x.shape[axis + 1]) for axis in (0, 1))
    return np.pad(x, ((0, 0), rows, columns, (0, 0))), (height, width)


def drawn(layer: keras.layers.Layer, x: np.ndarray, pictures: int, rng: np.random.Generator) -> np.ndarray:
    """Some output positions of a batch, in ascending order, at least one.

    Args:
      x: what the layer reads of the batch.  pictures: how many there are in all batches, which give POSITIONS together.
    """
    count = positions(layer, x)
    wanted = min(count, max(1, POSITIONS * len(x) // pictures))
    return np.sort(rng.choice(count, wanted, replace=False)) if wanted < count else np.arange(count)
