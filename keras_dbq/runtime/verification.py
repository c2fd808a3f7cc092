"""The proof that a file computes what was trained: Keras, numpy engine, interpreter, layer by layer."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from keras_dbq import _checks
from keras_dbq.reference import Engine
from keras_dbq.runtime import plausibility
from keras_dbq.runtime.interpreter import Interpreter
from keras_dbq.runtime.keras_codes import NOTHING, KerasCodes, KerasRun, roundings, to_codes
from keras_dbq.runtime.verification_report import TensorRow, VerificationError, VerificationReport
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.operators import BUILTIN_OPS
from keras_dbq.tflite.unpack import unpack_tflite
from keras_dbq.wrapping import wrappers

TOP1_AGREEMENT = 0.995


def verify(
    q_model: Any,
    path: str | os.PathLike | bytes,
    x: Any,
    *,
    int8_file: str | os.PathLike | bytes | None = None,
    top1_threshold: float = TOP1_AGREEMENT,
    batch_size: int = 16,
    raise_on_failure: bool = True,
    float_model: Any = None,
) -> VerificationReport:
    """Runs Keras, the numpy engine and the interpreter on the same examples and compares every layer's codes.

    Integer paths have to be equal in every code: numpy engine (XNNPACK's rounding) = interpreter, and for a packed file
    also packed operators = the int8 twin in the stock interpreter. Operators that stayed in float agree up to 1e-4 of
    their tensor's largest value; all that follows is computed from the interpreter's values and equal again.

    Keras works in float32 and rounds ties otherwise. It is compared twice. Layer by layer: each of its layers gets the
    file's codes and has to give the file's codes, a code off by one aside; the rate is reported, and a layer that
    computes something else fails. And on its own from the input to the output: its best class has to be the file's.
    Where it falls below `top1_threshold` although every layer agrees, the network itself makes single codes grow; that
    is reported as a note and passes. All paths start from the input codes of Keras.

    Args:
      q_model: the quantized Keras model that was exported; None compares the file's integer paths only.
      path: the exported file (or its bytes), packed or int8.
      x: float array [N, ...]; for a model of several inputs a list in Keras' order, or a dict by Keras' names.
      int8_file: the int8 export to compare a packed file with; None makes it with `unpack_tflite`.
      top1_threshold: least share of examples on which Keras' best class is among the file's best (last axis of the
        first output; ties in the file's codes count as agreement). 0 asks nothing of Keras.
      batch_size: examples at once; a file whose batch is fixed (an unrolled LSTM) is run at its own.
      raise_on_failure: raise VerificationError when something fails; False returns the report.
      float_model: the network before quantization. Its outputs have to have the file's shapes, and the report says how
        far its answers are from the file's (no limit: how far is fine is a matter of bits and training).

    Returns:
      VerificationReport.

    Raises:
      TypeError, ValueError: not a quantized model.
      VerificationError: integer paths differ, or Keras' layers compute something else (it names the first tensor), or
        Keras disagrees too often, or the model was changed after the export, or shapes differ.
      ValueError: x is empty, inputs of different lengths, or the file is damaged.
    """
    threshold = _checks.number("top1_threshold", top1_threshold, 0.0, 1.0)
    if q_model is not None:
        wrappers.check_quantized(q_model, "verify")
    _checks.integer("batch_size", batch_size, 1, 2**31 - 1)
    paths = _Paths(q_model, fb.read_bytes(path), int8_file)
    inputs = [np.asarray(a, np.float32) for a in _checks.in_order("x", x, paths.engine.input_names)]
    for a, detail in zip(inputs, paths.interpreter.input_details, strict=True):
        _checks.batch_shape(detail["name"], a, detail["shape_signature"])
    if len({len(a) for a in inputs}) != 1 or not len(inputs[0]):
        raise ValueError(f"x: expected one batch size of at least 1 in all inputs, got {[len(a) for a in inputs]}")
    report = _compare(paths, inputs, batch_size, threshold)
    if float_model is not None:
        plausibility.compare_float(report, paths.engine, float_model, inputs)
    for note in report.saturation_notes():
        warnings.warn(f"verify: {note}", stacklevel=2)
    if raise_on_failure and not report.passed:
        raise VerificationError(f"verify: {'; '.join(report.problems())}", report)
    return report


def _batches(inputs: list[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    for start in range(0, len(inputs[0]), size):
        yield [a[start : start + size] for a in inputs]


# running


class _Run(NamedTuple):
    """What an integer path computed from one batch."""

    outputs: list[np.ndarray]
    tensors: dict[str, np.ndarray]  # codes by the file's tensor names


@dataclass(frozen=True)
class _Results:
    """What every path computed from one batch."""

    examples: int
    engine: _Run
    interpreter: _Run
    int8: _Run | None  # of a packed file's twin
    keras: KerasRun  # on its own
    by_layer: KerasRun  # each layer on the file's codes


class _Paths:
    """The programs that are compared."""

    def __init__(self, q_model: Any, data: bytes, int8_file: str | os.PathLike | bytes | None):
        self.packed = _is_packed(data)
        self.engine = Engine(data, rounding="xnnpack")
        self.interpreter = Interpreter(data, delegate=self.packed, preserve_all_tensors=True)
        self.int8: Interpreter | None = None
        if self.packed:
            twin = unpack_tflite(data) if int8_file is None else fb.read_bytes(int8_file)
            self.int8 = Interpreter(twin, delegate=False, preserve_all_tensors=True)
        self.keras = None if q_model is None else KerasCodes(q_model, self.engine)

    def run(self, batch: list[np.ndarray]) -> _Results:
        """One batch on every path; the file gets the input codes that Keras computes."""
        keras = NOTHING if self.keras is None else self.keras.run(batch)
        given = [_given(t.name, value, keras) for t, value in zip(self.engine.inputs, batch, strict=True)]
        # An interpreter keeps the tensors of its last run alone, and some files are run at their own batch only.
        runs = [self._run_file(part) for part in _batches(given, self.interpreter.batch_at_once(len(given[0])))]
        engine, interpreter, int8 = map(_joined, zip(*runs, strict=True))
        assert engine is not None and interpreter is not None
        return _Results(
            examples=len(batch[0]),
            engine=engine,
            interpreter=interpreter,
            int8=int8,
            keras=keras,
            by_layer=NOTHING if self.keras is None else self.keras.run_by_layer(batch, engine.tensors),
        )

    def _run_file(self, given: list[np.ndarray]) -> tuple[_Run, _Run, _Run | None]:
        """Engine, interpreter and twin on as many examples as a run takes."""
        interpreter = _run(self.interpreter, given)
        # What stayed in float has a tolerance, and each path's own numbers behind it: the engine goes on with theirs.
        follow = interpreter.tensors if self.engine.has_float else None
        outputs, tensors = self.engine.run(given, all_tensors=True, follow=follow)
        twin = None if self.int8 is None else _run(self.int8, given)
        return _Run(plausibility.listed(outputs), tensors), interpreter, twin


def _joined(runs: tuple[_Run | None, ...]) -> _Run | None:
    """Several runs as one of all their examples."""
    parts = [run for run in runs if run is not None]
    if len(parts) < 2:
        return parts[0] if parts else None
    outputs = [np.concatenate(values) for values in zip(*(part.outputs for part in parts), strict=True)]
    # Scalars and sizes, which have no axis of examples, become lists, on every path alike.
    tensors = {name: np.concatenate([np.atleast_1d(part.tensors[name]) for part in parts]) for name in parts[0].tensors}
    return _Run(outputs, tensors)


def _is_packed(data: bytes) -> bool:
    model = fb.load_model(data)
    return any(fb.op_name(model, operator) in BUILTIN_OPS for operator in model.subgraphs[0].operators)


def _given(name: str, value: np.ndarray, keras: KerasRun) -> np.ndarray:
    """Keras' codes of an input, so that ties there (x / 127.5 - 1 is full of them) do not blur what follows."""
    return keras.codes[name].astype(np.int8) if name in keras.codes else value


def _run(interpreter: Interpreter, given: list[np.ndarray]) -> _Run:
    outputs = interpreter.predict(given, batch_size=len(given[0]))
    return _Run(plausibility.listed(outputs), interpreter.tensors())


# comparing


def _compare(paths: _Paths, inputs: list[np.ndarray], batch_size: int, threshold: float) -> VerificationReport:
    """Adds up what differs, batch by batch."""
    report = VerificationReport([], 0, paths.packed, threshold, saturated=plausibility.saturated(paths.engine, inputs))
    if paths.keras is not None:
        report.unmatched, report.changed = paths.keras.missing, paths.keras.changed
    rounding = {} if paths.keras is None else roundings(paths.engine)
    rows: dict[str, TensorRow] = {}
    keras_output = np.zeros(2, np.int64)  # differing, compared
    for batch in _batches(inputs, batch_size):
        results = paths.run(batch)
        _count_outputs(report, results)
        for name in results.engine.tensors:
            _count_tensor(rows.setdefault(name, TensorRow(name, rounding=rounding.get(name, 1))), results, report)
        keras_output += _keras_output(paths.engine, results)
    report.rows = list(rows.values())
    report.output_keras = float(keras_output[0] / max(keras_output[1], 1))
    if report.top1_agreement < threshold and report.top1_agreement_by_layer >= threshold:
        report.nudged_equal = plausibility.nudged_equal(paths.engine, inputs)
    return report


def _count_outputs(report: VerificationReport, results: _Results) -> None:
    engine, interpreter = results.engine.outputs, results.interpreter.outputs
    report.examples += results.examples
    report.output_interpreter += _differing_in_all(engine, interpreter)
    if results.int8 is not None:
        report.output_int8 += _differing_in_all(interpreter, results.int8.outputs)
    report.top1_equal += _same_class(engine[0], results.keras, results.examples)
    report.top1_equal_by_layer += _same_class(engine[0], results.by_layer, results.examples)


def _count_tensor(row: TensorRow, results: _Results, report: VerificationReport) -> None:
    """Every path that has the tensor."""
    codes, other = results.engine.tensors[row.name], results.interpreter.tensors.get(row.name)
    twin = None if results.int8 is None else results.int8.tensors.get(row.name)
    keras = results.by_layer.codes.get(row.name)
    row.codes += codes.size
    if other is not None:
        row.interpreter += _differing(codes, other)
    if other is not None and twin is not None:
        row.int8 += _differing(other, twin)
    if keras is not None and keras.size != codes.size:
        phrase = f"{row.name!r} is {list(keras.shape[1:])} in Keras and {list(codes.shape[1:])} in the file"
        report.shapes += [phrase] if phrase not in report.shapes else []
    elif keras is not None:
        _count_keras(row, np.abs(keras.reshape(codes.shape) - codes.astype(np.int32)))


def _count_keras(row: TensorRow, distance: np.ndarray) -> None:
    row.keras_codes += distance.size
    row.keras += int(np.count_nonzero(distance))
    row.keras_wide += int(np.count_nonzero(distance > row.rounding))
    row.keras_largest = max(row.keras_largest, int(distance.max(initial=0)))


def _keras_output(engine: Engine, results: _Results) -> tuple[int, int]:
    """(differing, compared) output codes of Keras on its own; nothing is compared without Keras."""
    if not results.keras.outputs:
        return 0, 0
    differing = compared = 0
    for tensor, codes, real in zip(engine.outputs, results.engine.outputs, results.keras.outputs, strict=True):
        expected = real if codes.dtype == np.float32 else to_codes(real, tensor.scale, tensor.zero_point)
        differing, compared = differing + _differing(codes, expected), compared + codes.size
    return differing, compared


def _same_class(codes: np.ndarray, keras: KerasRun, count: int) -> int:
    """Examples whose best class in Keras' first output is among the best codes of the file; all without Keras."""
    if not keras.outputs:
        return count
    best = keras.outputs[0].argmax(-1)[..., None]
    first = codes.reshape(keras.outputs[0].shape)
    agree = np.take_along_axis(first, best, -1)[..., 0] == first.max(-1)
    return int(agree.reshape(count, -1).all(1).sum())


def _differing_in_all(left: list[np.ndarray], right: list[np.ndarray]) -> int:
    return sum(_differing(a, b) for a, b in zip(left, right, strict=True))


def _differing(left: np.ndarray, right: np.ndarray) -> int:
    """Number of elements that are not equal; different shapes differ everywhere."""
    same_size = np.size(left) == np.size(right)
    return int(np.count_nonzero(np.ravel(left) != np.ravel(right))) if same_size else int(np.size(left))
