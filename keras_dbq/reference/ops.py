"""The table of operators, and what a handler is given besides its input arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_dbq.reference.rounding import activation_range
from keras_dbq.reference.tflite_file import Operator, Tensor

Array = np.ndarray


@dataclass(frozen=True)
class Call:
    """One operator of the file, ready to run.

    inputs, outputs: the file's tensors (None for an absent optional input). rounding: "xnnpack" or "builtin".
    batch_factor: how many times the file's batch the pictures given now are. prepared: what `PREPARE` made at load.
    """

    op: Operator
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    rounding: str
    batch_factor: int = 1
    prepared: Any = None

    @property
    def input(self) -> Tensor:
        assert self.inputs[0] is not None
        return self.inputs[0]

    @property
    def output(self) -> Tensor:
        return self.outputs[0]

    @property
    def quantized(self) -> bool:
        """True when the first output holds 8-bit codes."""
        return self.output.dtype in (np.dtype(np.int8), np.dtype(np.uint8)) and self.output.quantization is not None


Handler = Callable[..., Any]
OPS: dict[str, Handler] = {}
# Operators whose constants are decoded and checked once, at load: (operator, inputs) -> Call.prepared.
PREPARE: dict[str, Callable[[Operator, tuple[Tensor | None, ...]], Any]] = {}


def register(*names: str) -> Callable[[Handler], Handler]:
    """Decorator: handler(call, *input arrays) -> output array, or a list of them, for these operator names."""

    def add(handler: Handler) -> Handler:
        for name in names:
            assert name not in OPS, name
            OPS[name] = handler
        return handler

    return add


def require_int8(call: Call) -> None:
    """Raises ValueError unless the operator's first input and output are int8."""
    for tensor in (call.input, call.output):
        if tensor.dtype != np.int8:
            raise ValueError(f"tensor {tensor.name!r}: expected int8, got {tensor.dtype}; export a full-integer file")


def require_same_grid(call: Call, tensor: Tensor) -> None:
    """Raises ValueError unless an 8-bit input has the output's scale and zero point."""
    y = call.output
    if call.quantized and (tensor.scale != y.scale or tensor.zero_point != y.zero_point):
        raise ValueError(
            f"input {tensor.name!r}: expected the output's scale {y.scale} and zero point {y.zero_point}, "
            f"got {tensor.scale} and {tensor.zero_point}"
        )


def clamp_activation(call: Call, values: Array, rounding: str) -> Array:
    """The fused activation of the operator's options on codes of any integer or float dtype; int8."""
    y = call.output
    activation = call.op.option("fusedActivationFunction")
    low, high = activation_range(activation, y.scale, y.zero_point, rounding, -128, 127)
    return np.clip(values, low, high).astype(np.int8)
