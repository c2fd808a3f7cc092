"""What every random file with one builtin operator needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.tflite_ops.packed_models import ModelBuilder, coarse


@dataclass
class Example:
    """A file and an array for each of its inputs, of codes or float32."""

    content: bytes
    inputs: list[np.ndarray]


def scale_bits(seed: int) -> int | None:
    """Of the scales' mantissas: any, one (powers of two) or four. The last two put many results on a tie."""
    return (None, 1, 4)[seed % 3]


class RandomModel:
    """What every example needs: scales, zero points, codes."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.scale_bits = scale_bits(seed)
        self.builder = ModelBuilder()

    def int(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def quantization(self) -> tuple[np.float32, np.ndarray]:
        return np.float32(coarse(self.rng.uniform(0.01, 0.1), self.scale_bits)), np.array([self.int(-128, 127)])

    def tensor(self, name: str, shape: tuple[int, ...], quantization: tuple[np.float32, np.ndarray]) -> int:
        return self.builder.tensor(name, shape, scale=quantization[0], zero_point=quantization[1])

    def image(self) -> tuple[int, int, int, int]:
        return (self.int(1, 2), self.int(1, 9), self.int(1, 9), self.int(1, 70))

    def finish(self, inputs: list[int], output: int, shapes: list[tuple[int, ...]]) -> Example:
        self.builder.graph.inputs, self.builder.graph.outputs = inputs, [output]
        codes = [self.rng.integers(-128, 128, shape).astype(np.int8) for shape in shapes]
        return Example(self.builder.bytes(), codes)
