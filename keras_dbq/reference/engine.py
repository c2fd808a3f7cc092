"""The numpy engine: runs a file operator by operator, in the order of the file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_dbq._checks import in_order, one_of
from keras_dbq.reference import (  # noqa: F401 (register)
    ops_activation,
    ops_conv,
    ops_elementwise,
    ops_pool,
    ops_shape,
    ops_vectors,
)
from keras_dbq.reference.ops import OPS, PREPARE, Call
from keras_dbq.reference.ops_float import FLOAT_OPS, agrees
from keras_dbq.reference.packed import PackedLayer
from keras_dbq.reference.rounding import input_codes
from keras_dbq.reference.tflite_file import Operator, Tensor, TFLiteModel, read_model

Array = np.ndarray
ROUNDINGS = ("xnnpack", "builtin")
# choice: pictures run at once; bounds the memory of the activations of one run.
_PICTURES_AT_ONCE = 16


class Engine:
    """What an int8 or packed `.tflite` file computes, in numpy.

    Args:
      source: path of a `.tflite` file, or its bytes.
      rounding: "xnnpack" (the interpreter's default) or "builtin" (the interpreter without delegates; packed operators
        keep their own rounding). See docs/rounding.md.

    Raises:
      ValueError: for a damaged file, an operator that is not supported (named, with its position), a malformed packed
        operator, or another rounding.

    Example:
      y = Engine("m.tflite").run(x)
    """

    def __init__(self, source: str | os.PathLike | bytes, rounding: str = "xnnpack"):
        self.rounding = one_of("rounding", rounding, ROUNDINGS)
        self.model: TFLiteModel = read_model(source)
        self._check_order()
        self._prepared = [self._prepare(op) for op in self.model.operators]
        self._handlers = [_handler(op, self.model) for op in self.model.operators]
        self._last_use = {i: op.index for op in self.model.operators for i in op.inputs}

    @property
    def inputs(self) -> list[Tensor]:
        """The file's input tensors, in the order `run` takes them."""
        return [self.model.tensors[i] for i in self.model.inputs]

    @property
    def outputs(self) -> list[Tensor]:
        """The file's output tensors, in the order `run` returns them."""
        return [self.model.tensors[i] for i in self.model.outputs]

    @property
    def input_names(self) -> list[str]:
        """Keras' names of the inputs in Keras' order: those of the file's signature."""
        return list(self.model.input_names)

    @property
    def output_names(self) -> list[str]:
        """Keras' names of the outputs in Keras' order."""
        return list(self.model.output_names)

    @property
    def has_float(self) -> bool:
        """Whether an operator computes in float32; the file's last DEQUANTIZE does not count."""
        return any(
            op.name != "DEQUANTIZE" and any(self.model.tensors[i].dtype == np.float32 for i in op.outputs)
            for op in self.model.operators
        )

    @property
    def grids_behind_thresholds(self) -> list[tuple[float, int]]:
        """(scale, zero point) of the tensors that packed operators with thresholds spare: no tensor here has them."""
        layers = [prepared for prepared in self._prepared if isinstance(prepared, PackedLayer)]
        return [(float(p.output_scale), p.output_zero_point) for p in layers if p.thresholds is not None]

    def run(
        self,
        x: Array | Sequence[Array] | dict[str, Array],
        all_tensors: bool = False,
        follow: dict[str, Array] | None = None,
    ) -> Any:
        """Runs any number of pictures, whatever batch the file was converted for.

        Args:
          x: one array; for several inputs a list in the order of `input_names`, or a dict by these names. Float:
            quantized with the file's input scale, `rounding.input_codes`; int8 (or the file's own integer type): taken
            as codes.
          all_tensors: also return every activation, as codes, by tensor name; runs the whole batch at once.
          follow: float tensors by name, as a runtime computed them from the same input. With all_tensors: where ours
            agree (`ops_float.agrees`), theirs are taken instead, so that all that follows can be compared bit for bit.

        Returns:
          One array; for several outputs a list, or a dict where the Keras model gives one: float32
          ((code - zero_point) * scale) when the first input is float,
          codes when it is given as codes. With all_tensors: (that, {tensor name: array}).

        Raises:
          ValueError: for a wrong number or names of inputs, a wrong shape, different batches, or NaN.
          TypeError: for a wrong dtype.
        """
        arrays = [np.asarray(a) for a in in_order("x", x, self.input_names)]
        as_float = np.issubdtype(arrays[0].dtype, np.floating)
        codes = [_to_codes(a, tensor) for a, tensor in zip(arrays, self.inputs, strict=True)]
        factor = _batch_factor(codes, self.inputs)
        if all_tensors:
            results, activations = self._run_batch(codes, factor, True, follow or {})
        else:
            results, activations = self._run_blocks(codes, factor), {}
        if as_float:
            results = [_to_real(r, tensor) for r, tensor in zip(results, self.outputs, strict=True)]
        returned = self._structured(results)
        return (returned, self._by_name(activations)) if all_tensors else returned

    def _structured(self, results: list[Array]) -> Any:
        """One array, a list, or a dict where the Keras model gives one: our metadata entry says so."""
        entry = json.loads(self.model.metadata.get("keras_dbq", b"{}"))
        if entry.get("outputs") == "dict":
            return dict(zip(self.output_names, results, strict=True))
        return results[0] if len(results) == 1 else results

    def _check_order(self) -> None:
        """Every tensor that is read is a constant, an input, or an earlier operator's output."""
        known = {t.index for t in self.model.tensors if t.data is not None} | {-1, *self.model.inputs}
        for op in self.model.operators:
            missing = set(op.inputs) - known
            if missing:
                raise ValueError(f"operator {op.index} ({op.name}): input tensor {missing.pop()} has no value yet")
            known |= set(op.outputs)
        missing = set(self.model.outputs) - known
        if missing:
            raise ValueError(f"output tensor {missing.pop()}: no operator computes it")

    def _prepare(self, op: Operator) -> Any:
        if _handler(op, self.model) is None:
            raise ValueError(
                f"operator {op.index} ({op.name}): not supported by the reference engine; expected an operator of "
                "docs/rounding.md, change the layer that made it"
            )
        if op.name not in PREPARE or _is_float(op, self.model):
            return None
        with _Naming(op):
            return PREPARE[op.name](op, self._tensors(op.inputs))

    def _tensors(self, indices: tuple[int, ...]) -> tuple[Tensor | None, ...]:
        return tuple(None if i < 0 else self.model.tensors[i] for i in indices)

    def _run_blocks(self, codes: list[Array], factor: int) -> list[Array]:
        """Runs a few pictures at a time, and joins the outputs along the batch."""
        batch = self.inputs[0].shape[0] if self.inputs[0].shape else 1
        step = max(1, _PICTURES_AT_ONCE // max(batch, 1))
        if factor <= step:
            return self._run_batch(codes, factor, False, {})[0]
        blocks = []
        for start in range(0, factor, step):
            count = min(step, factor - start)
            part = [
                a[start * t.shape[0] : (start + count) * t.shape[0]] for a, t in zip(codes, self.inputs, strict=True)
            ]
            blocks.append(self._run_batch(part, count, False, {})[0])
        return [np.concatenate(parts) for parts in zip(*blocks, strict=True)]

    def _run_batch(
        self, codes: list[Array], factor: int, keep: bool, follow: dict[str, Array]
    ) -> tuple[list[Array], dict[int, Array]]:
        """The outputs, and (with keep) every activation by tensor index."""
        values = {t.index: t.data for t in self.model.tensors if t.data is not None}
        constant = set(values)
        values.update(zip(self.model.inputs, codes, strict=True))
        for op, prepared, handler in zip(self.model.operators, self._prepared, self._handlers, strict=True):
            outputs = tuple(self.model.tensors[i] for i in op.outputs)
            call = Call(op, self._tensors(op.inputs), outputs, self.rounding, factor, prepared)
            with _Naming(op):
                result = handler(call, *(None if i < 0 else values[i] for i in op.inputs))
                results = result if isinstance(result, list) else [result]
                results = [_followed(y, t, follow) for y, t in zip(results, outputs, strict=True)]
                values.update(zip(op.outputs, results, strict=True))
            if not keep:
                for i in {*op.inputs} - {*self.model.outputs} - constant:
                    if self._last_use[i] == op.index:
                        values.pop(i, None)
        outputs_now = [values[i] for i in self.model.outputs]
        return outputs_now, {i: v for i, v in values.items() if i not in constant} if keep else {}

    def _by_name(self, activations: dict[int, Array]) -> dict[str, Array]:
        named: dict[str, Array] = {}
        for i, value in activations.items():
            name = self.model.tensors[i].name
            named[f"{name}#{i}" if name in named else name] = value
        return named


def _is_float(op: Operator, model: TFLiteModel) -> bool:
    """Whether an operator with a form in float32 computes in it."""
    return op.name in FLOAT_OPS and any(model.tensors[i].dtype == np.float32 for i in op.outputs)


def _handler(op: Operator, model: TFLiteModel) -> Any:
    return FLOAT_OPS[op.name] if _is_float(op, model) else OPS.get(op.name)


def _followed(value: Array, tensor: Tensor, follow: dict[str, Array]) -> Array:
    """A float tensor as another runtime computed it, where it agrees; others stay."""
    if tensor.dtype != np.float32:
        return value
    value, other = value.astype(np.float32), follow.get(tensor.name)
    return value if other is None or not agrees(value, other) else other


class _Naming:
    """Puts the operator's position and name before the errors raised inside."""

    def __init__(self, op: Operator):
        self.op = op

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, ValueError):
            raise ValueError(f"operator {self.op.index} ({self.op.name}): {error}") from error
        if isinstance(error, Exception):  # what numpy and Python raise where a damaged file leads them
            raise ValueError(f"operator {self.op.index} ({self.op.name}): the file is malformed ({error!r})") from error


def _to_codes(x: Array, tensor: Tensor) -> Array:
    """x as the file's input tensor holds it."""
    if x.ndim != len(tensor.shape) or x.shape[1:] != tensor.shape[1:]:
        raise ValueError(f"input {tensor.name!r}: expected shape (batch, {str(tensor.shape[1:])[1:]}, got {x.shape}")
    real = np.issubdtype(x.dtype, np.floating)
    if real and np.isnan(x).any():
        raise ValueError(f"input {tensor.name!r}: expected numbers, got NaN")
    if tensor.dtype == np.float32:
        if not real:
            raise TypeError(f"input {tensor.name!r}: expected float, got {x.dtype}; the file has a float input")
        return x.astype(np.float32)
    if real and tensor.quantization is not None:
        info = np.iinfo(tensor.dtype)
        codes = input_codes(x, np.float32(tensor.scale), int(tensor.zero_point), int(info.min), int(info.max))
        return codes.astype(tensor.dtype)
    if x.dtype != tensor.dtype:
        raise TypeError(f"input {tensor.name!r}: expected float values or {tensor.dtype} codes, got {x.dtype}")
    return x


def _to_real(codes: Array, tensor: Tensor) -> Array:
    if tensor.quantization is None or codes.dtype == np.float32:
        return codes
    return (codes.astype(np.float32) - np.float32(tensor.zero_point)) * tensor.scale


def _batch_factor(codes: list[Array], tensors: list[Tensor]) -> int:
    """How many of the file's own batches the arrays hold; the same for every input."""
    factors = set()
    for x, tensor in zip(codes, tensors, strict=True):
        own = tensor.shape[0] if tensor.shape else 1
        if own < 1 or x.shape[:1] == (0,) or (tensor.shape and x.shape[0] % own):
            raise ValueError(f"input {tensor.name!r}: expected a batch of one or more times {own}, got {x.shape[0]}")
        factors.add(x.shape[0] // own if tensor.shape else 1)
    if len(factors) > 1:
        raise ValueError(f"x: expected one batch for all inputs, got {sorted(len(a) for a in codes)}")
    return factors.pop()
