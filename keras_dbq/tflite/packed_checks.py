"""What docs/packing.md asks of the constants of a packed operator, beyond their sizes, which `structure/` checks."""

from __future__ import annotations

import numpy as np

from keras_dbq.limits import TOP_LEVEL, bias_room
from keras_dbq.tflite.params import FORMAT_VERSION, MOST_THRESHOLDS, THRESHOLD_VERSION, Params


def check(
    branch_scales: np.ndarray,
    scales: np.ndarray,
    bias: np.ndarray,
    params: Params,
    name: str,
    thresholds: np.ndarray | None = None,
) -> None:
    """Refuses constants that the delegate refuses.

    Args:
      branch_scales: uint8 [B, M]. scales: float32 [2 + M]. bias: int32 [M]. name: "CONV_2D", ...
      thresholds: int32 [n, M], of version 2 alone.

    Raises:
      ValueError: one line: what, expected, got.
    """
    if params.format_version not in (FORMAT_VERSION, THRESHOLD_VERSION):
        raise ValueError(
            f"packed format: expected version {FORMAT_VERSION} or {THRESHOLD_VERSION}, got {params.format_version}; "
            "update keras_dbq"
        )
    _check_types(branch_scales=(branch_scales, np.uint8), scales=(scales, np.float32), bias=(bias, np.int32))
    _check_branch_scales(branch_scales.reshape(params.branches, -1).astype(np.int64))
    wrong = ~(np.isfinite(scales) & (scales > 0))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ValueError(f"scales: expected finite values over 0, got {scales[at]} at {at}; is the file damaged?")
    _check_geometry(params, name)
    _check_bias(bias, params, name)
    _check_thresholds(thresholds, params, name)


def _check_types(**arrays: tuple[np.ndarray, type]) -> None:
    for what, (array, wanted) in arrays.items():
        if array.dtype != wanted:
            raise ValueError(f"{what}: expected {np.dtype(wanted).name}, got {array.dtype}; is the file damaged?")


def _check_branch_scales(scales: np.ndarray) -> None:
    p, q = scales[0], scales[1] if len(scales) == 2 else np.zeros_like(scales[0])
    wrong = (q >= p) | (p + q > TOP_LEVEL)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ValueError(
            f"branch_scales: expected p > q >= 0 and p + q <= {TOP_LEVEL}, got p {p[at]}, q {q[at]} in channel {at}; "
            "is the file damaged?"
        )


def _check_geometry(params: Params, name: str) -> None:
    """A depth multiplier that fits the channels; a fully connected layer has neither window nor padding."""
    wanted = params.output_channels // params.input_channels if name == "DEPTHWISE_CONV_2D" else 0
    fits = name != "DEPTHWISE_CONV_2D" or params.output_channels % params.input_channels == 0
    if params.depth_multiplier != wanted or not fits:
        raise ValueError(f"params: expected depth multiplier {wanted}, got {params.depth_multiplier}")
    window = (*params[2:4], *params[6:11])
    if name == "FULLY_CONNECTED" and window != (1,) * len(window):
        raise ValueError(f"params: expected kernel, strides, dilations 1 and padding VALID, got {list(window)}")


def _check_bias(bias: np.ndarray, params: Params, name: str) -> None:
    channels = 1 if name == "DEPTHWISE_CONV_2D" else params.input_channels
    length = params.kernel_height * params.kernel_width * channels
    largest = int(np.abs(bias.astype(np.int64)).max(initial=0))
    room = bias_room(length) - (params.format_version == THRESHOLD_VERSION)  # 2^31 - 1 means "never"
    if largest > room:
        raise ValueError(f"bias: expected up to {room} beside {length} products, got {largest}")


def _check_thresholds(thresholds: np.ndarray | None, params: Params, name: str) -> None:
    wanted = params.format_version == THRESHOLD_VERSION
    if wanted != (thresholds is not None):
        raise ValueError(f"packed format {params.format_version}: expected {6 + wanted} inputs; is the file damaged?")
    if thresholds is None:
        return
    if name == "DEPTHWISE_CONV_2D":
        raise ValueError("packed format 2: expected no depthwise layer; is the file damaged?")
    _check_types(thresholds=(thresholds, np.int32))
    rows = thresholds.shape[0] if thresholds.ndim == 2 else 0
    if not 1 <= rows <= MOST_THRESHOLDS or thresholds.shape[1] != params.output_channels:
        raise ValueError(
            f"thresholds: expected shape [1..{MOST_THRESHOLDS}, {params.output_channels}], got {thresholds.shape}"
        )
    if (thresholds[1:] < thresholds[:-1]).any():
        raise ValueError("thresholds: expected numbers that do not fall from row to row; is the file damaged?")
    if not -128 <= params.lowest_code <= 127 - rows:
        raise ValueError(f"params: expected a lowest code from -128 to {127 - rows}, got {params.lowest_code}")
