"""The proof that a file computes what was trained: Keras, numpy engine, interpreter, layer by layer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from keras_dbq import _checks
from keras_dbq._table import Table
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.operators import BUILTIN_OPS
from keras_dbq.tflite.unpack import unpack_tflite

TOP1_AGREEMENT = 0.995
# A layer of Keras, given the file's codes, computes what the file computes: rounding may move a code by one, rarely.
LAYER_TOLERANCE = 0.01  # share of a tensor's codes that may be off by more than one (operators of approximations)


class VerificationError(AssertionError):
    """The file does not compute what it should. `report` holds the whole comparison."""

    def __init__(self, message: str, report: VerificationReport):
        super().__init__(message)
        self.report = report


@dataclass
class TensorRow:
    """One activation tensor of the file, over all examples; counts are int8 codes."""

    name: str
    codes: int = 0  # compared
    interpreter: int = 0  # differing: numpy engine, interpreter. Must be 0
    int8: int = 0  # differing: packed file in the interpreter, int8 twin in the stock one. Must be 0
    # Keras' layer on the file's codes of its inputs, against the file's codes of its output
    keras_codes: int = 0  # compared; 0 where Keras does not quantize this tensor
    keras: int = 0  # differing
    keras_wide: int = 0  # differing by more than one code
    keras_largest: int = 0  # largest difference, in codes

    @property
    def keras_agrees(self) -> bool:
        """The layer differs by rounding at most."""
        return self.keras_wide <= LAYER_TOLERANCE * self.keras_codes


@dataclass
class VerificationReport:
    """Result of `verify`; str() prints a table, `passed` says whether everything holds."""

    rows: list[TensorRow]
    examples: int
    packed: bool  # the file holds packed operators, so its int8 twin was run as well
    top1_threshold: float
    top1_equal: int = 0  # examples on which Keras, run on its own, and the file agree
    top1_equal_by_layer: int = 0  # the same with Keras given the file's codes at every layer
    output_interpreter: int = 0  # differing output codes: numpy engine, interpreter
    output_int8: int = 0  # differing output codes: packed, int8 twin
    output_keras: float = 0.0  # share of output codes that differ from Keras
    unmatched: list[str] = field(default_factory=list)  # quantized in Keras on a grid that the file does not have

    @property
    def top1_agreement(self) -> float:
        """Share of the examples whose best class in Keras, run on its own, is (one of) the best in the file."""
        return self.top1_equal / self.examples

    @property
    def top1_agreement_by_layer(self) -> float:
        """The same where each layer of Keras gets the file's codes: rounding differences do not pile up."""
        return self.top1_equal_by_layer / self.examples

    @property
    def first_difference(self) -> str | None:
        """Name of the first tensor on which integer paths disagree, or None."""
        return next((row.name for row in self.rows if row.interpreter or row.int8), None)

    @property
    def passed(self) -> bool:
        """Integer paths are equal everywhere, and Keras agrees (see `verify`)."""
        return not self.problems()

    def problems(self) -> list[str]:
        """What fails, one phrase each."""
        found = []
        if self.first_difference or self.output_interpreter or self.output_int8:
            where = self.first_difference or "the output"
            found.append(
                f"the integer paths differ, first at {where!r} ({self.output_interpreter} output codes numpy against "
                f"interpreter, {self.output_int8} packed against int8)"
            )
        wrong = next((row for row in self.rows if not row.keras_agrees), None)
        if wrong is not None and self.top1_threshold > 0:
            found.append(
                f"Keras' layer {wrong.name!r} computes something else than the file: from the same input "
                f"{wrong.keras_wide} of {wrong.keras_codes} codes differ by more than 1, by up to "
                f"{wrong.keras_largest}; was the model changed after the export?"
            )
        elif not self._agreement_or_growth():
            found.append(
                f"top-1 agreement of Keras and the file is {100 * self.top1_agreement:.2f} %, expected at least "
                f"{100 * self.top1_threshold:.2f} %"
            )
        return found

    def _agreement_or_growth(self) -> bool:
        """Keras agrees, or every layer of it does and only rounding that grows on the way separates the two."""
        if self.top1_agreement >= self.top1_threshold:
            return True
        compared = bool(self.rows) and not self.unmatched and any(row.keras_codes for row in self.rows)
        return compared and self.top1_agreement_by_layer >= self.top1_threshold

    @property
    def notes(self) -> list[str]:
        """What passes, but should be known."""
        found = [
            f"Keras quantizes {name!r} on a grid that the file does not have: was the model changed after the export?"
            for name in self.unmatched
        ]
        if self.top1_agreement < self.top1_threshold and self._agreement_or_growth():
            found.append(
                f"Keras run on its own gives the file's class in {100 * self.top1_agreement:.2f} % of the examples "
                f"only, under {100 * self.top1_threshold:.2f} %, although each of its layers agrees: this network "
                "makes single differing codes grow from layer to layer (docs/rounding.md)"
            )
        return found

    def to_json(self) -> str:
        """All fields as JSON text."""
        return json.dumps(asdict(self), indent=1)

    def __str__(self) -> str:
        table = Table(["tensor", "codes", "numpy/interpreter", "packed/int8", "Keras differs", "by at most"])
        for row in self.rows:
            keras = f"{100 * row.keras / row.keras_codes:.3f} %" if row.keras_codes else "-"
            largest = str(row.keras_largest) if row.keras_codes else "-"
            table.add(row.name, row.codes, row.interpreter, row.int8 if self.packed else "-", keras, largest)
        verdict = "passed" if self.passed else "FAILED: " + "; ".join(self.problems())
        return "\n".join([
            str(table),
            f"{self.examples} examples; differing output codes: numpy/interpreter {self.output_interpreter}, "
            f"packed/int8 {self.output_int8 if self.packed else '-'}, Keras {100 * self.output_keras:.3f} %",
            f"top-1 agreement of Keras and the file: {100 * self.top1_agreement:.2f} %; layer by layer: "
            f"{100 * self.top1_agreement_by_layer:.2f} %",
            *(f"! {note}" for note in self.notes),
            verdict,
        ])  # fmt: skip


def verify(
    q_model: Any,
    path: str | os.PathLike | bytes,
    x: Any,
    *,
    int8_file: str | os.PathLike | bytes | None = None,
    top1_threshold: float = TOP1_AGREEMENT,
    batch_size: int = 16,
    raise_on_failure: bool = True,
) -> VerificationReport:
    """Runs Keras, the numpy engine and the interpreter on the same examples and compares every layer's codes.

    Integer paths have to be equal in every code: numpy engine (XNNPACK's rounding) = interpreter, and for a packed file
    also packed operators = the int8 twin in the stock interpreter.

    Keras works in float32 and rounds ties otherwise. It is compared twice. Layer by layer: each of its layers gets the
    file's codes and has to give the file's codes, a code off by one aside; the rate is reported, and a layer that
    computes something else fails. And on its own from the input to the output: its best class has to be the file's.
    Where it falls below `top1_threshold` although every layer agrees, the network itself makes single codes grow; that
    is reported as a note and passes. All paths start from the input codes of Keras.

    Args:
      q_model: the quantized Keras model that was exported; None compares the file's integer paths only.
      path: the exported file (or its bytes), packed or int8.
      x: float array [N, ...], or a list of arrays for a model of several inputs.
      int8_file: the int8 export to compare a packed file with; None makes it with `unpack_tflite`.
      top1_threshold: least share of examples on which Keras' best class is among the file's best (last axis of the
        first output; ties in the file's codes count as agreement). 0 asks nothing of Keras.
      batch_size: examples at once.
      raise_on_failure: raise VerificationError when something fails; False returns the report.

    Returns:
      VerificationReport.

    Raises:
      VerificationError: integer paths differ, or Keras' layers compute something else (it names the first tensor), or
        Keras disagrees too often.
      ValueError: x is empty, inputs of different lengths, or the file is damaged.
    """
    from keras_dbq.reference import Engine
    from keras_dbq.runtime.interpreter import Interpreter

    threshold = _checks.number("top1_threshold", top1_threshold, 0.0, 1.0)
    _checks.integer("batch_size", batch_size, 1, 2**31 - 1)
    inputs = [np.asarray(a, np.float32) for a in (x if isinstance(x, (list, tuple)) else [x])]
    if len({len(a) for a in inputs}) != 1 or not len(inputs[0]):
        raise ValueError(f"x: expected one batch size of at least 1 in all inputs, got {[len(a) for a in inputs]}")
    data = fb.read_bytes(path)
    packed = _is_packed(data)
    engine = Engine(data, rounding="xnnpack")
    ours = Interpreter(data, delegate=packed, preserve_all_tensors=True)
    twin = Interpreter(_int8_twin(data, int8_file), delegate=False, preserve_all_tensors=True) if packed else None
    keras = None if q_model is None else _KerasCodes(q_model, engine)
    comparison = _Comparison(VerificationReport([], len(inputs[0]), packed, threshold))
    if keras is not None:
        comparison.report.unmatched = keras.missing
    for batch in _batches(inputs, batch_size):
        comparison.add(batch, engine, ours, twin, keras)
    report = comparison.finish()
    if raise_on_failure and not report.passed:
        raise VerificationError(f"verify: {'; '.join(report.problems())}", report)
    return report


def _is_packed(data: bytes) -> bool:
    model = fb.load_model(data)
    return any(fb.op_name(model, operator) in BUILTIN_OPS for operator in model.subgraphs[0].operators)


def _int8_twin(data: bytes, int8_file: str | os.PathLike | bytes | None) -> bytes:
    return unpack_tflite(data) if int8_file is None else fb.read_bytes(int8_file)


def _batches(inputs: list[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    for start in range(0, len(inputs[0]), size):
        yield [a[start : start + size] for a in inputs]


class _KerasCodes:
    """The quantized activations of a Keras model as int8 codes, by the file's tensor names.

    A layer may own several tensors of the file (`pool`, and `pool#2` behind it on another grid): the one with the Keras
    quantizer's grid is meant.
    """

    def __init__(self, q_model: Any, engine: Any):
        from keras_dbq.compat import keras, tf
        from keras_dbq.wrapping.naming import quantized_outputs

        file_tensors: dict[tuple[str, np.float32, int], str] = {}
        for tensor in engine.model.tensors:
            if tensor.quantization is not None and tensor.quantization.scale.size == 1:
                key = (tensor.name.split("#")[0], np.float32(tensor.scale), int(tensor.zero_point))
                file_tensors.setdefault(key, tensor.name)
        self.model = q_model
        self.by_node: dict[int, tuple[str, Any]] = {}  # id of a node -> (tensor of the file, QuantizedOutput)
        self.missing: list[str] = []
        inputs = {tensor.name for tensor in engine.inputs}
        self.inputs: list[tuple[str, Any]] = []
        for quantized in quantized_outputs(q_model):
            name = file_tensors.get((quantized.name, np.float32(quantized.scale), int(quantized.zero_point)))
            if name is None:
                self.missing.append(quantized.name)
                continue
            self.by_node[id(quantized.node)] = name, quantized
            if name in inputs:
                self.inputs.append((name, quantized))
        outputs = [[q.tensor for _, q in self.inputs], tf.nest.flatten(q_model.outputs)]
        self.free = keras.Model(q_model.inputs, outputs)

    def run(self, batch: list[np.ndarray]) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        """The model on its own: ({input's tensor name: int8 codes}, float outputs)."""
        quantized, outputs = self.free(batch if len(batch) > 1 else batch[0], training=False)
        codes: dict[str, np.ndarray] = {}
        for (name, grid), value in zip(self.inputs, quantized, strict=True):
            codes.setdefault(name, to_codes(value.numpy(), grid.scale, grid.zero_point))
        return codes, [output.numpy() for output in outputs]

    def run_by_layer(
        self, batch: list[np.ndarray], file_codes: dict[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        """Each layer on the file's codes of its inputs: ({tensor name: int8 codes}, float outputs)."""
        from keras_dbq.compat import tf
        from keras_dbq.network import graph

        codes: dict[str, np.ndarray] = {}
        nodes = graph.nodes(self.model)

        def replace(layer: Any) -> Any:
            calls = iter([node for node in nodes if node.layer is layer])
            extra = {"training": False} if layer._expects_training_arg else {}

            def call(*args: Any, **kwargs: Any) -> Any:
                value = layer(*args, **{**kwargs, **extra})
                name, grid = self.by_node.get(id(next(calls)), ("", None))
                if grid is None or name not in file_codes or file_codes[name].size != np.prod(value.shape):
                    return value
                codes.setdefault(name, to_codes(value.numpy(), grid.scale, grid.zero_point))
                real = (file_codes[name].astype(np.float32) - np.float32(grid.zero_point)) * grid.scale
                return tf.constant(real.reshape(value.shape))

            return call

        outputs = graph.replay(self.model, [tf.constant(x) for x in batch], replace)
        return codes, [output.numpy() for output in tf.nest.flatten(outputs)]


def to_codes(real: np.ndarray, scale: np.float32, zero_point: int) -> np.ndarray:
    """int32 codes of numbers that lie on a grid already (but for float32 rounding)."""
    return (np.rint(real.astype(np.float64) / np.float64(scale)) + zero_point).astype(np.int32)


def _input_codes(tensor: Any, value: np.ndarray, keras_codes: dict[str, np.ndarray]) -> np.ndarray:
    """Keras' codes of an input, so that ties there (x / 127.5 - 1 is full of them) do not blur what follows."""
    return keras_codes[tensor.name].astype(np.int8) if tensor.name in keras_codes else value


class _Comparison:
    """Adds up differences batch by batch."""

    def __init__(self, report: VerificationReport):
        self.report = report
        self.rows: dict[str, TensorRow] = {}
        self.keras_output = np.zeros(2, np.int64)  # differing, compared

    def add(self, batch: list[np.ndarray], engine: Any, ours: Any, twin: Any, keras: _KerasCodes | None) -> None:
        """Runs one batch on every path; the file gets the input codes that Keras computes."""
        input_codes, keras_outputs = ({}, []) if keras is None else keras.run(batch)
        given = [_input_codes(t, value, input_codes) for t, value in zip(engine.inputs, batch, strict=True)]
        x = given if len(given) > 1 else given[0]
        numpy_output, numpy_tensors = engine.run(x, all_tensors=True)
        ours_output, ours_tensors = ours.predict(x, batch_size=len(batch[0])), ours.tensors()
        self.report.output_interpreter += _differing(numpy_output, ours_output)
        twin_tensors: dict[str, np.ndarray] = {}
        if twin is not None:
            self.report.output_int8 += _differing(ours_output, twin.predict(x, batch_size=len(batch[0])))
            twin_tensors = twin.tensors()
        keras_codes, by_layer = ({}, []) if keras is None else keras.run_by_layer(batch, numpy_tensors)
        for name, codes in numpy_tensors.items():
            row = self.rows.setdefault(name, TensorRow(name))
            row.codes += codes.size
            if name in ours_tensors:
                row.interpreter += _differing(codes, ours_tensors[name])
            if name in twin_tensors and name in ours_tensors:
                row.int8 += _differing(ours_tensors[name], twin_tensors[name])
            if name in keras_codes and keras_codes[name].size == codes.size:
                difference = np.abs(keras_codes[name].reshape(codes.shape) - codes.astype(np.int32))
                row.keras_codes += codes.size
                row.keras += int(np.count_nonzero(difference))
                row.keras_wide += int(np.count_nonzero(difference > 1))
                row.keras_largest = max(row.keras_largest, int(difference.max(initial=0)))
        outputs = numpy_output if isinstance(numpy_output, list) else [numpy_output]
        for tensor, codes, real in zip(engine.outputs, outputs, keras_outputs, strict=bool(keras_outputs)):
            expected = real if codes.dtype == np.float32 else to_codes(real, tensor.scale, tensor.zero_point)
            self.keras_output += (_differing(codes, expected), codes.size)
        self.report.top1_equal += _same_class(outputs[0], keras_outputs, len(batch[0]))
        self.report.top1_equal_by_layer += _same_class(outputs[0], by_layer, len(batch[0]))

    def finish(self) -> VerificationReport:
        """The report."""
        self.report.rows = list(self.rows.values())
        if self.keras_output[1]:
            self.report.output_keras = float(self.keras_output[0] / self.keras_output[1])
        return self.report


def _same_class(codes: np.ndarray, keras_outputs: list[np.ndarray], count: int) -> int:
    """Examples whose best class in Keras' first output is among the best codes of the file; all without Keras."""
    if not keras_outputs:
        return count
    best = keras_outputs[0].argmax(-1)[..., None]
    first = codes.reshape(keras_outputs[0].shape)
    agree = np.take_along_axis(first, best, -1)[..., 0] == first.max(-1)
    return int(agree.reshape(count, -1).all(1).sum())


def _differing(a: Any, b: Any) -> int:
    """Number of elements that are not equal; different shapes differ everywhere."""
    pairs = zip(a, b, strict=True) if isinstance(a, list) else [(a, b)]
    count = 0
    for left, right in pairs:
        same_size = np.size(left) == np.size(right)
        count += int(np.count_nonzero(np.ravel(left) != np.ravel(right))) if same_size else int(np.size(left))
    return count
