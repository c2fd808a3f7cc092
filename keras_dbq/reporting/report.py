"""`report`: the page of one quantized network and its file."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_dbq import _checks, benchmark
from keras_dbq._files import check_path, write_file
from keras_dbq._table import Table
from keras_dbq.compat import keras, tf
from keras_dbq.inspection.profile import LayerProfile, profile
from keras_dbq.inspection.weights import get_ternary_weights, integer_weights
from keras_dbq.keras3 import as_tf_keras
from keras_dbq.reporting import errors, plots
from keras_dbq.reporting.page import Page
from keras_dbq.runtime.verification import VerificationReport, verify
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.contents import Contents, contents
from keras_dbq.wrapping import wrappers

EXAMPLES = 64  # that errors are measured on
COST_EXAMPLES = 16  # the network runs once for each layer


def report(
    q_model: keras.Model,
    file: str | os.PathLike | bytes,
    path: str | os.PathLike,
    x: Any,
    *,
    float_model: Any = None,
    labels: Any = None,
    time: bool = True,
    title: str | None = None,
    facts: Sequence[tuple[str, str]] = (),
) -> VerificationReport:
    """Writes a page, one HTML file that needs no network, about a quantized network and the file exported from it.

    On it: sizes, accuracy, `verify`'s result; bytes by layer; with the float network the error of weights and
    activations by layer, and what each layer's weights cost; staircases and levels of every quantized layer; time by
    operator; operations and full adders.

    Args:
      q_model: quantized model.  file: the exported `.tflite`, or its bytes.
      path: the `.html` file, written completely or not at all.
      x: float pictures [N, ...] as the network takes them; for several inputs a list or dict. Errors are measured on
        the first 64.
      float_model: the network before quantization (tf_keras or Keras 3); None leaves its comparisons out.
      labels: class numbers [N] of x; None: no accuracy, only agreement.
      time: run the benchmark against the stock interpreter (seconds).
      title: of the page; None: the model's name.
      facts: further rows (name, value) for the first table, such as the command that was run.

    Returns:
      The VerificationReport, which the page shows. A file that differs is reported there, it raises nothing.

    Raises:
      TypeError, ValueError: not a quantized model, a damaged file, labels of another length, a path in no folder.
      ImportError: matplotlib is missing.
    """
    wrappers.check_quantized(q_model, "report")
    check_path(path)
    _checks.boolean("time", time)
    data = fb.read_bytes(file)
    float_model = None if float_model is None else as_tf_keras(float_model)
    inputs = _checks.in_order("x", x, [tensor._keras_history.layer.name for tensor in q_model.inputs])
    if labels is not None and len(labels) != len(inputs[0]):
        raise ValueError(f"labels: expected one per example, {len(inputs[0])}, got {len(labels)}")
    few = [np.asarray(a[:EXAMPLES], np.float32) for a in inputs]
    found = contents(data)
    verified = verify(q_model, data, few if len(few) > 1 else few[0], float_model=float_model, raise_on_failure=False)
    page, layers = Page(title or f"{q_model.name}, quantized"), profile(q_model)
    _results(page, found, verified, [*_accuracies(q_model, float_model, inputs, labels), *facts])
    _bytes(page, found)
    if float_model is not None:
        _errors(page, q_model, float_model, few)
    _staircases(page, q_model)
    if time:
        _time(page, data)
    _layers(page, layers)
    write_file(path, page.html().encode())
    return verified


def _accuracies(q_model: Any, float_model: Any, inputs: list[Any], labels: Any) -> list[tuple[str, str]]:
    if labels is None:
        return []
    models = [("float network", float_model), ("quantized network", q_model)]
    rows = []
    for name, model in models:
        if model is not None:
            answer = tf.nest.flatten(model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0))[0]
            right = float(np.mean(np.argmax(answer, -1) == np.asarray(labels).reshape(-1)))
            rows.append((f"accuracy, {name}", f"{100 * right:.2f} % of {len(labels)} examples"))
    return rows


def _results(page: Page, found: Contents, verified: VerificationReport, facts: Sequence[tuple[str, str]]) -> None:
    page.heading("Result")
    rows = [("file", f"{found.file_bytes:,} bytes, {'packed' if found.needs_delegate else 'stock operators'}")]
    if verified.float_top1 is not None:
        rows.append(("same class as the float network", f"{100 * verified.float_top1:.1f} % of {verified.examples}"))
        rows.append(("distance from its answers", f"{verified.float_error:.3f} of their own spread"))
    rows += [*facts, ("versions", _versions()), ("processor", benchmark.cpu_name())]
    page.facts(rows)
    passed = "verify passed: the file computes what Keras computes, code for code where integers do"
    if verified.is_far_from_float:
        page.text("The file seldom gives the float network's class: see which layers cost accuracy, below.", good=False)
    page.text(passed if verified.passed else "verify FAILED: " + "; ".join(verified.problems()), verified.passed)
    for note in verified.notes:
        page.text(note)


def _versions() -> str:
    python = ".".join(map(str, sys.version_info[:3]))
    return f"TensorFlow {tf.__version__}, tf_keras {keras.__version__}, Python {python}"


def _bytes(page: Page, found: Contents) -> None:
    page.heading("Where the bytes are", "Constants by layer; what belongs to no layer stands below.")
    rows = [(row.output.name, row.bytes, row.weights) for row in found.operators if row.weights]
    rows += [(f"({kind})", size, "other") for kind, size in found.other.items()]
    page.svg(plots.bytes_by_layer(*(list(column) for column in zip(*rows, strict=True))))


def _errors(page: Page, q_model: Any, float_model: Any, few: list[np.ndarray]) -> None:
    x: Any = few if len(few) > 1 else few[0]
    page.heading(
        "Error by layer",
        "10 log10 of the power of the float tensor over the power of the difference. Weights: of each kernel by "
        "itself. Activations: of the whole network up to there.",
    )
    weights, activations = errors.weight_errors(q_model), errors.activation_errors(q_model, float_model, x)
    page.svg(plots.signal_to_noise(weights, activations))
    table = Table(["layer", "of its", "signal to noise, dB", "cosine"])
    for of, found in (("weights", weights), ("activations", activations)):
        for row in found:
            table.add(row.name, of, round(row.snr, 1), round(row.cosine, 4))
    page.table(table)
    page.heading(
        "Which layers cost accuracy",
        "How far the float network's outputs move when one layer alone has its quantized weights, each channel scaled "
        "as a batch norm does that is measured again.",
    )
    some: Any = [a[:COST_EXAMPLES] for a in few]
    costs = errors.weight_costs(q_model, float_model, some if len(some) > 1 else some[0])
    page.svg(plots.costs(costs))


def _staircases(page: Page, q_model: Any) -> None:
    """Of every quantized layer, the ternary ones first."""
    layers = [layer for layer in wrappers.all_layers(q_model) if wrappers.quantized_weights(layer)]
    layers.sort(key=lambda layer: not _is_ternary(layer))
    drawn = {}
    for layer in layers:
        name, weights = wrappers.inner(layer).name, get_ternary_weights if _is_ternary(layer) else integer_weights
        drawn[name] = plots.staircases(name, weights(layer))
    if drawn:
        page.heading("Weights and their levels", "Weights that lie between two thresholds become one level.")
        page.chosen(drawn, "layer")


def _is_ternary(layer: Any) -> bool:
    return any(weight.quantizer.branches for weight in wrappers.quantized_weights(layer))


def _time(page: Page, data: bytes) -> None:
    page.heading(
        "Time", "Our interpreter beside the stock one on the int8 file, in turns, one thread, outputs checked."
    )
    try:
        timed = benchmark.compare(data, benchmark.int8_twin(data), rounds=50)
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        page.text(f"not timed: {error}", good=False)
        return
    ours, stock = float(np.median(timed.ours)), float(np.median(timed.stock))
    page.text(f"{ours:.1f} us, stock {stock:.1f} us; ours / stock {timed.ratio:.3f} (median of {timed.rounds} rounds)")
    if timed.steps:
        page.svg(plots.times([step.name for step in timed.steps], [step.microseconds for step in timed.steps]))


def _layers(page: Page, layers: list[LayerProfile]) -> None:
    page.heading("Layers", "Per picture; full adders with every code and with the non-zero ones alone.")
    table = Table(["layer", "type", "weights", "output", "density", "bytes", "MACs", "additions", "multiplications",
                   "full adders", "of non-zero codes"])  # fmt: skip
    for row in layers:
        if row.cost is None or row.kernel is None:
            continue
        density = " ".join(f"{share:.2f}" for share in row.kernel.density)
        shape = "x".join(map(str, row.output_shape))
        table.add(row.name, row.kind, row.weights, shape, density, row.cost.file_bytes, row.macs, row.cost.additions,
                  row.cost.multiplications, row.cost.full_adders, row.cost.full_adders_sparse)  # fmt: skip
    page.table(table)
