"""The tensor `params` of a packed operator (docs/packing.md): geometry, activation and zero points."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FORMAT_VERSION = 1
# Of an operator that counts thresholds instead of scaling its sums: one tensor and one parameter more.
THRESHOLD_VERSION = 2
MOST_THRESHOLDS = 15


class Params(NamedTuple):
    """int32 [16] with names, [17] in version 2; the order is the file's."""

    format_version: int
    branches: int
    kernel_height: int
    kernel_width: int
    input_channels: int
    output_channels: int
    stride_height: int
    stride_width: int
    dilation_height: int
    dilation_width: int
    padding: int  # the schema's Padding: 0 SAME, 1 VALID
    activation: int  # the schema's ActivationFunctionType
    depth_multiplier: int  # DepthwiseConv2D; else 0
    input_zero_point: int
    output_zero_point: int
    keep_num_dims: int  # FullyConnected; else 0
    lowest_code: int = 0  # version 2: the output's, below all thresholds

    def to_array(self) -> np.ndarray:
        """int32 [16], or [17] in version 2."""
        return np.array(self[: _count(self.format_version)], np.int32)

    @classmethod
    def from_array(cls, values: np.ndarray) -> Params:
        """Raises ValueError where there are not as many numbers as the version has."""
        wanted = _count(int(values.flat[0])) if values.size else len(cls._fields)
        if values.shape != (wanted,):
            raise ValueError(f"params: expected shape ({wanted},), got {values.shape}; is the file damaged?")
        return cls(*(int(value) for value in values))


def _count(version: int) -> int:
    """Numbers in params of a format version."""
    return len(Params._fields) - (version != THRESHOLD_VERSION)
