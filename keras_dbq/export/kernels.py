"""The integer weights of one operator, and what makes its bias fit int32."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from keras_dbq.limits import LEAST_ROOM, SATURATING, bias_room
from keras_dbq.tflite.levels import find_branches


@dataclass(frozen=True)
class Kernel:
    """Weights of one call of a kernel layer, batch norm folded in. One channel is one column; weight = column * scale.

    The packer does not read `branches`: it finds them in the integers, so that it works on any int8 file.
    """

    name: str  # of the layer
    columns: np.ndarray  # int8 [K, M]
    scale: np.ndarray  # float32 [M], or [1] for all channels
    bias: np.ndarray  # float64 [M], real values
    branches: int = 0  # 0: linear
    bits: int = 8  # of linear weights

    @cached_property
    def float_columns(self) -> np.ndarray:
        """float32 [K, M]: what the converter sees, one float32 product per weight."""
        return self.columns.astype(np.float32) * self.scale

    def with_one_scale(self) -> Kernel:
        """The kernel with scale [1] where all channels have the same; else itself."""
        return replace(self, scale=self.scale[:1]) if np.all(self.scale == self.scale[0]) else self


def fit_bias(kernel: Kernel, source_scale: float) -> tuple[Kernel, np.ndarray]:
    """The kernel for an input of scale `source_scale`, and its int32 bias [M] = rint(b / (s_in * s_w)).

    The bias has to fit beside the sum of K products: |bias| <= `limits.bias_room(K)`.
    derived: so s_w >= |b| / (s_in * room). A channel with a tiny scale (a batch norm gamma near 0) can have less. Its
    scale is raised to that and its integers shrink in turn, which moves each weight's share of the sum by at most
    bias / 2**31 times the input's code.

    Raises:
      ValueError: no room for a bias beside so many products; weights or bias that are not finite.
    """
    _check_finite(kernel)
    source = np.float64(source_scale)
    least = np.abs(kernel.bias) / (source * _room(kernel))
    fitted = _with_scale_of_at_least(kernel, least if len(kernel.scale) > 1 else least.max(keepdims=True))
    codes = np.rint(kernel.bias / (source * fitted.scale.astype(np.float64)))
    assert np.all(np.abs(codes) <= _room(kernel)), f"{kernel.name}: bias over int32"
    return fitted, codes.astype(np.int32)


def _room(kernel: Kernel) -> int:
    room = bias_room(len(kernel.columns))
    if room < LEAST_ROOM:
        raise ValueError(
            f"layer {kernel.name!r}: expected a dot product that fits int32, got {len(kernel.columns)} weights a "
            "channel; split the layer"
        )
    return room


def _check_finite(kernel: Kernel) -> None:
    if not (np.all(np.isfinite(kernel.scale)) and np.all(np.isfinite(kernel.bias))):
        raise ValueError(
            f"layer {kernel.name!r}: expected finite weights and biases, got NaN or infinity; did the training diverge?"
        )


def _with_scale_of_at_least(kernel: Kernel, least: np.ndarray) -> Kernel:
    """The kernel with smaller integers on a larger scale, in channels whose scale is under `least` (as long)."""
    scale = kernel.scale.astype(np.float64)
    short = scale < least
    if not short.any():
        return kernel
    # The next float32 up, so that rounding to float32 does not end below the bound.
    raised = np.where(short, np.nextafter(least.astype(np.float32), np.float32(np.inf)), kernel.scale)
    ratios = np.broadcast_to(scale / np.maximum(scale, least), len(kernel.bias))
    columns = kernel.columns.copy()
    for channel in np.flatnonzero(ratios < 1):
        columns[:, channel] = _shrunk(columns[:, channel], ratios[channel], kernel.branches)
    return replace(kernel, columns=columns, scale=raised.astype(np.float32))


def _shrunk(column: np.ndarray, ratio: float, branches: int) -> np.ndarray:
    """int8 [K] times a ratio in (0, 1], rounded.

    Branches stay branches: their scales are rounded instead of their levels, because round(p + q) is not always
    round(p) + round(q).
    """
    found = find_branches(column[:, None]) if branches else None
    if found is None:
        return np.rint(column * ratio).astype(np.int8)
    scales = np.rint(found.scales[:, 0] * ratio)
    if len(scales) == 2:
        scales[1] = min(scales[1], max(scales[0] - 1, 0))  # p > q >= 0, see `tflite.levels`
    return (found.codes[:, :, 0] * scales[:, None]).sum(0).astype(np.int8)


def runnable_scale(scale: np.ndarray, source_scale: float, target_scale: float) -> np.ndarray:
    """Weight scales, float32 [M] or [1], that give the same codes and no multiplier that a runtime refuses.

    derived: the multiplier of a sum is m = s_in * s_w / s_out. From m = 255 on every sum but 0 goes past the end of
    int8 wherever the zero point lies, so a larger one computes nothing else; XNNPACK takes none of 256 and more. Such
    multipliers come from outputs that are nearly zero on all data, behind a ReLU that hardly opens.
    """
    largest = np.float32(SATURATING * np.float64(target_scale) / np.float64(source_scale))
    return np.minimum(scale, largest).astype(np.float32)
