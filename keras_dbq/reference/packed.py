"""Decoding of the packed operators: docs/packing.md, versions 1 and 2, with every check that it asks for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keras_dbq.reference.rounding import activation_range, requantize_float
from keras_dbq.reference.tflite_file import Operator, Tensor

Array = np.ndarray
Finish = Callable[[Array], Array]

OPERATORS = ("DbqConv2D", "DbqDepthwiseConv2D", "DbqFullyConnected")
FORMAT_VERSION = 1
THRESHOLD_VERSION = 2
MOST_THRESHOLDS = 15
TRITS_PER_BYTE = 5
LARGEST_BYTE = 3**TRITS_PER_BYTE - 1
_INPUTS = ("input", "codes", "branch_scales", "scales", "bias", "params")
_MORE_INPUTS = (*_INPUTS, "thresholds")  # of version 2
_PARAMS = {FORMAT_VERSION: 16, THRESHOLD_VERSION: 17}
# The names of params 2 to 9, for messages.
_SIZES = (
    "kernel height", "kernel width", "input channels", "output channels", "stride h", "stride w", "dilation h",
    "dilation w",
)  # fmt: skip


@dataclass(frozen=True)
class PackedLayer:
    """One packed operator, decoded: `weights` int8 in the layout of the weight tensor that it replaces.

    thresholds: int32 [n, M] of version 2, which counts; None in version 1, which scales.  lowest_code: of version 2.
    """

    weights: Array
    bias: Array  # int32 [M]
    input_scale: np.float32
    output_scale: np.float32
    weight_scales: Array  # float32 [M]
    input_zero_point: int
    output_zero_point: int
    input_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    valid: bool
    activation: int
    keep_num_dims: bool
    thresholds: Array | None = None
    lowest_code: int = 0

    def finisher(self) -> Finish:
        """Accumulator -> int8: y = clamp(z + rne(float32(acc) * multiplier[m])), see docs/packing.md.

        Version 2: y = lowest code + the number of thresholds of channel m that acc has reached.
        """
        if self.thresholds is not None:
            return self._count
        multiplier = self.input_scale * self.weight_scales / self.output_scale  # float32, in this order
        low, high = activation_range(self.activation, self.output_scale, self.output_zero_point, "xnnpack", -128, 127)
        return lambda acc: requantize_float(acc, multiplier, self.output_zero_point, low, high)

    def _count(self, acc: Array) -> Array:
        """acc: exact integers, channels last. A comparison in float64 is exact for them and for int32."""
        assert self.thresholds is not None
        codes = np.full(acc.shape, self.lowest_code, np.int8)
        for row in self.thresholds.astype(np.float64):
            codes += acc >= row
        return codes


def decode_trits(codes: Array, branches: int, count: int) -> Array:
    """int8 [branches, count] in {-1, 0, 1} from bytes d0 + 3 d1 + 9 d2 + 27 d3 + 81 d4, d = trit + 1.

    Raises:
      ValueError: for a wrong length, a byte over 242, or a last byte that is not filled with trit 0.
    """
    plane = -(-count // TRITS_PER_BYTE)
    if codes.shape != (branches * plane,):
        raise ValueError(f"codes: expected {branches * plane} bytes, got shape {codes.shape}")
    if codes.max(initial=0) > LARGEST_BYTE:
        at = int(np.argmax(codes > LARGEST_BYTE))
        raise ValueError(f"codes: expected bytes up to {LARGEST_BYTE}, got {codes[at]} at byte {at}")
    digits = codes.reshape(branches, plane, 1).astype(np.int16) // 3 ** np.arange(TRITS_PER_BYTE, dtype=np.int16) % 3
    trits = (digits - 1).astype(np.int8).reshape(branches, plane * TRITS_PER_BYTE)
    if trits[:, count:].any():
        raise ValueError("codes: expected the last byte of a plane filled with trit 0, got another trit")
    return trits[:, :count]


def _arrays(op: Operator, inputs: tuple[Tensor | None, ...]) -> dict[str, Array]:
    """The five constant inputs by name, six in version 2, their presence and types checked."""
    if op.version != 1:
        raise ValueError(f"operator version: expected 1, got {op.version}; update keras_dbq")
    names = _MORE_INPUTS if len(inputs) == len(_MORE_INPUTS) else _INPUTS
    if len(inputs) != len(names) or any(tensor is None for tensor in inputs):
        raise ValueError(f"expected {len(names)} inputs ({', '.join(names)}), got {len(inputs)}")
    wanted = {"codes": np.uint8, "branch_scales": np.uint8, "scales": np.float32, **dict.fromkeys(names[4:], np.int32)}
    found = {}
    for name, tensor in zip(names, inputs, strict=True):
        assert tensor is not None
        dtype = wanted.get(name, np.int8)
        if tensor.dtype != dtype:
            raise ValueError(f"{name}: expected {np.dtype(dtype).name}, got {tensor.dtype}")
        if name in wanted:
            if tensor.data is None:
                raise ValueError(f"{name}: expected a constant tensor, got an activation")
            found[name] = tensor.data
    return found


def _range(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise ValueError(f"params, {name}: expected {low}..{high}, got {value}")
    return int(value)


def decode(op: Operator, inputs: tuple[Tensor | None, ...]) -> PackedLayer:
    """Decodes and checks the constants of one packed operator.

    Raises:
      ValueError: one line, for everything that docs/packing.md forbids.
    """
    arrays = _arrays(op, inputs)
    params = arrays["params"]
    p = [int(v) for v in params.reshape(-1)]
    if p and p[0] not in _PARAMS:
        raise ValueError(f"params, format version: expected 1 or 2, got {p[0]}; update keras_dbq")
    count = _PARAMS[p[0] if p else FORMAT_VERSION]
    if params.shape != (count,):
        raise ValueError(f"params: expected shape ({count},), got {params.shape}")
    branches = _range("branches", p[1], 1, 2)
    kh, kw, c, m, sh, sw, dh, dw = (_range(name, v, 1, 2**24) for name, v in zip(_SIZES, p[2:10], strict=True))
    _range("padding", p[10], 0, 1)
    _range("activation", p[11], 0, 3)
    _range("input zero point", p[13], -128, 127)
    _range("output zero point", p[14], -128, 127)
    _range("keep_num_dims", p[15], 0, 1)
    shape, axis, length = _weight_shape(op.name, p)
    trits = decode_trits(arrays["codes"], branches, math.prod(shape))
    weights = _integer_weights(
        trits.reshape(branches, *shape), _branch_scales(arrays["branch_scales"], branches, m), axis
    )
    scales, bias = _scales(arrays["scales"], m), arrays["bias"]
    if bias.shape != (m,):
        raise ValueError(f"bias: expected shape ({m},), got {bias.shape}")
    thresholds = _thresholds(op.name, arrays, p, m)
    largest = length * 127 * 255 + int(np.abs(bias.astype(np.int64)).max())
    limit = 2**31 - (1 if thresholds is None else 2)
    if largest > limit:
        raise ValueError(f"accumulator: expected K * 127 * 255 + |bias| up to {limit}, got {largest}")
    return PackedLayer(
        weights, bias, scales[0], scales[1], scales[2:], p[13], p[14], c, (kh, kw), (sh, sw), (dh, dw), p[10] == 1,
        p[11], p[15] == 1, thresholds, p[-1] if p[0] == THRESHOLD_VERSION else 0,
    )  # fmt: skip


def _thresholds(name: str, arrays: dict[str, Array], p: list[int], m: int) -> Array | None:
    """int32 [n, M] of version 2, checked; None in version 1."""
    thresholds = arrays.get("thresholds")
    if (p[0] == THRESHOLD_VERSION) != (thresholds is not None):
        raise ValueError(f"format version {p[0]}: expected {5 + p[0]} inputs, got {len(arrays) + 1}")
    if thresholds is None:
        return None
    if name == "DbqDepthwiseConv2D":
        raise ValueError("format version 2: expected DbqConv2D or DbqFullyConnected, got DbqDepthwiseConv2D")
    rows = thresholds.shape[0] if thresholds.ndim == 2 else 0
    if not 1 <= rows <= MOST_THRESHOLDS or thresholds.shape != (rows, m):
        raise ValueError(f"thresholds: expected shape (1..{MOST_THRESHOLDS}, {m}), got {thresholds.shape}")
    if (thresholds[1:] < thresholds[:-1]).any():
        raise ValueError("thresholds: expected numbers that do not fall from row to row")
    _range("lowest code", p[16], -128, 127 - rows)
    return thresholds


def _weight_shape(name: str, p: list[int]) -> tuple[tuple[int, ...], int, int]:
    """(shape of the int8 weights, their channel axis, weights summed into one output)."""
    kh, kw, c, m = p[2:6]
    multiplier = p[12]
    if name == "DbqDepthwiseConv2D":
        if multiplier < 1 or m != c * multiplier:
            raise ValueError(
                f"params: expected output channels = input channels * depth multiplier, got {m}, {c}, {multiplier}"
            )
        return (1, kh, kw, m), 3, kh * kw
    if multiplier != 0:
        raise ValueError(f"params, depth multiplier: expected 0 in {name}, got {multiplier}")
    if name == "DbqConv2D":
        return (m, kh, kw, c), 0, kh * kw * c
    if p[2:4] != [1, 1] or p[6:11] != [1, 1, 1, 1, 1]:
        raise ValueError(
            f"params: expected kernel, stride, dilation 1 and padding VALID in {name}, got {p[2:4] + p[6:11]}"
        )
    return (m, c), 0, c


def _branch_scales(table: Array, branches: int, m: int) -> Array:
    """int64 [branches, M], checked: p >= 1, p > q >= 0, p + q <= 127."""
    if table.shape != (branches, m):
        raise ValueError(f"branch_scales: expected shape ({branches}, {m}), got {table.shape}")
    wide = table.astype(np.int64)
    p, q = wide[0], wide[1] if branches == 2 else np.zeros_like(wide[0])
    wrong = (p < 1) | (q >= p) | (p + q > 127)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ValueError(
            f"branch_scales: expected p >= 1, p > q, p + q <= 127, got p {p[at]}, q {q[at]} in channel {at}"
        )
    return wide


def _scales(scales: Array, m: int) -> Array:
    if scales.shape != (2 + m,):
        raise ValueError(f"scales: expected shape ({2 + m},), got {scales.shape}")
    wrong = ~(np.isfinite(scales) & (scales > 0))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ValueError(f"scales: expected finite values over 0, got {scales[at]} at {at}")
    return scales


def _integer_weights(trits: Array, branch_scales: Array, axis: int) -> Array:
    """p * b1 + q * b2 along the channel axis, int8 (|p + q| <= 127 fits)."""
    shape = [1] * (trits.ndim - 1)
    shape[axis] = -1
    return sum(b * s.reshape(shape) for b, s in zip(trits, branch_scales, strict=True)).astype(np.int8)
