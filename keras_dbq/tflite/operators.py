"""What is known of TFLite's operators, in one table: names, the channels' axis, versions, how grids pass through."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class KernelOperator(NamedTuple):
    """An operator with weights, which can become one of ours."""

    custom: str  # the name that its packed form has
    axis: int  # of the weights: the output channels
    version: int  # that means int8 with a scale per channel


# measured: the versions are what TensorFlow 2.21's converter writes.
KERNELS = {
    "CONV_2D": KernelOperator("DbqConv2D", axis=0, version=3),
    "DEPTHWISE_CONV_2D": KernelOperator("DbqDepthwiseConv2D", axis=3, version=3),
    "FULLY_CONNECTED": KernelOperator("DbqFullyConnected", axis=0, version=4),
}
CUSTOM_OPS = {builtin: kernel.custom for builtin, kernel in KERNELS.items()}
BUILTIN_OPS = {custom: builtin for builtin, custom in CUSTOM_OPS.items()}


class Grid(NamedTuple):
    """real = scale * (code - zero_point), codes int8 from `bottom` on."""

    scale: float  # a float32 value
    zero_point: int
    bottom: int = -128  # above -128: under 8 bits, where no ReLU clips


# Output codes are the input's codes, moved or selected.
SAME_GRID = frozenset(
    "MAX_POOL_2D AVERAGE_POOL_2D PAD MIRROR_PAD RESHAPE SQUEEZE EXPAND_DIMS STRIDED_SLICE SLICE TRANSPOSE SPLIT "
    "SPLIT_V GATHER RESIZE_NEAREST_NEIGHBOR RESIZE_BILINEAR REDUCE_MAX REDUCE_MIN SPACE_TO_DEPTH "
    "DEPTH_TO_SPACE SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND TILE REVERSE_V2 UNPACK".split()
)
# All inputs have to be on the output's grid.
JOIN = frozenset("CONCATENATION MAXIMUM MINIMUM PACK".split())
# Every tensor has a grid of its own.
FREE = frozenset("ADD SUB MUL MEAN RELU RELU6 LEAKY_RELU PRELU HARD_SWISH BATCH_MATMUL".split()) | frozenset(KERNELS)
# The operator writes this grid whatever was asked. source: TFLite's quantization specification.
FIXED = {
    **dict.fromkeys(("SOFTMAX", "LOGISTIC"), Grid(1 / 256, -128)),
    **dict.fromkeys(("TANH", "L2_NORMALIZATION"), Grid(1 / 128, 0)),
}
INT8_OPS = SAME_GRID | JOIN | FREE | set(FIXED)
# Its output codes are input codes, so a grid asked of the output can be given to the input. An average is rounded.
PASSES_GRID_BACK = (SAME_GRID | JOIN) - {"AVERAGE_POOL_2D", "RESIZE_BILINEAR"}

# Operator versions that mean int8, where it is not 2. measured: what TensorFlow 2.21's converter writes.
_VERSIONS = {
    **dict.fromkeys(("RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"), 3),
    **dict.fromkeys(("RESHAPE", "SPLIT", "LEAKY_RELU", "PRELU", "HARD_SWISH", "SQUEEZE", "EXPAND_DIMS"), 1),
    **{name: kernel.version for name, kernel in KERNELS.items()},
}


def int8_version(name: str) -> int:
    """Version of a builtin operator that means int8."""
    return _VERSIONS.get(name, 2)


def has_weights(name: str) -> bool:
    """True for the operators that get a row of their own in a report: convolutions and dense layers, packed or not."""
    return name in CUSTOM_OPS or name in BUILTIN_OPS


def channel_columns(weights: np.ndarray, name: str) -> np.ndarray:
    """Weights in the layout of a builtin operator (OHWI, 1HWM, [M, K]) -> [K, M]: one channel is one column."""
    axis = KERNELS[name].axis
    return np.moveaxis(weights, axis, -1).reshape(-1, weights.shape[axis])


def from_columns(columns: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    """[K, M] -> weights of `shape` in the layout of a builtin operator; the inverse of `channel_columns`."""
    axis = KERNELS[name].axis
    moved = (*shape[:axis], *shape[axis + 1 :], shape[axis])
    return np.ascontiguousarray(np.moveaxis(columns.reshape(moved), -1, axis))
