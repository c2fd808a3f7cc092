"""The tensor `params` of a packed operator (docs/packing.md): geometry, activation and zero points."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FORMAT_VERSION = 1


class Params(NamedTuple):
    """int32 [16] with names; the order is the file's."""

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

    def to_array(self) -> np.ndarray:
        """int32 [16]."""
        return np.array(self, np.int32)

    @classmethod
    def from_array(cls, values: np.ndarray) -> Params:
        """Raises ValueError where there are not 16 numbers."""
        if values.shape != (len(cls._fields),):
            raise ValueError(f"params: expected shape ({len(cls._fields)},), got {values.shape}; is the file damaged?")
        return cls(*(int(value) for value in values))
