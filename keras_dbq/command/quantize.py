"""`quantize`: from a Keras model and some pictures to a file that is proved to compute what was quantized."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from typing import Any

from keras_dbq._table import Table
from keras_dbq.command import picture_flags, startup
from keras_dbq.command.outcome import Command, Outcome, add_output, check_output

FLOAT = "float"
ANSWERS = ("softmax", "sigmoid", "numbers")  # as of `reconstruct`, which would load TensorFlow
CHECKED = 50  # examples that the file is verified on


def quantize(flags: argparse.Namespace) -> Outcome:
    """Everything from the model to the verified file."""
    for path in filter(None, (flags.output, flags.keep, flags.page)):
        check_output(path, flags.force)
    startup.load_tensorflow()
    scheme = make_scheme(flags)  # wrong flags show before the model is loaded

    from keras_dbq.command import pictures
    from keras_dbq.export import export_tflite, verify
    from keras_dbq.keras3 import as_tf_keras
    from keras_dbq.keras3.files import load_model
    from keras_dbq.prepare.basis import change_basis
    from keras_dbq.prepare.ranges import even_ranges
    from keras_dbq.quantize import SOLVED_FROM, check, quantize_model
    from keras_dbq.training.answer_range import are_rounded, calibrate_answers
    from keras_dbq.training.distillation import distill
    from keras_dbq.training.outputs import checked_answers
    from keras_dbq.training.reconstruction import reconstruct

    float_model = load_model(flags.model)
    obstacles = check(float_model, scheme)
    refused = obstacles.fatal if flags.skip else obstacles
    if refused:
        raise ValueError(refused.sentence())
    meant = checked_answers(flags.answers, as_tf_keras(float_model))
    _check_ends(flags, float_model)
    data = pictures.read(flags.data, float_model, flags.pictures + CHECKED, flags.range, flags.seed)
    print(data, flush=True)
    fitted_to, checked = data.first(flags.pictures), data.behind(flags.pictures)
    if data.count <= flags.pictures:  # too few for both
        checked = data.first(CHECKED)
    wanted = float_model
    if flags.basis:
        options = {"branches": _branches(flags), "rounds": flags.basis}
        wanted, table = change_basis(as_tf_keras(float_model), fitted_to, **options)
        print(table, flush=True)
    # With fewer pictures a channel that seems dead may be alive, and weights are rounded only.
    if flags.scheme == "fat" and flags.init in (None, "two_step") and min(data.count, flags.pictures) >= SOLVED_FROM:
        wanted, table = even_ranges(as_tf_keras(float_model), fitted_to)
        print(table, flush=True)
    q_model = quantize_model(wanted, scheme, fitted_to)
    if flags.reconstruct:
        options = {"epochs": flags.reconstruct, "answers": flags.answers, "seed": flags.seed}
        print(reconstruct(q_model, wanted, fitted_to, **options), flush=True)
    if flags.distill:
        history = distill(q_model, wanted, fitted_to, epochs=flags.distill, seed=flags.seed, verbose=2)
        print(f"distilled, loss {history['loss'][0]:.4g} to {history['loss'][-1]:.4g}", flush=True)
    if meant != "numbers" and are_rounded(q_model):
        before, after = calibrate_answers(q_model, fitted_to, meant)
        print(f"divergence of answers by the rounding of outputs, {before:.4g} to {after:.4g} nats", flush=True)
    exported = export_tflite(q_model, flags.output, flags.encoding, strict=not flags.skip)
    if flags.keep:
        _save(q_model, flags.keep)
    report = verify(q_model, flags.output, checked, float_model=float_model, raise_on_failure=False)
    held_out = data.count > flags.pictures
    if flags.page:
        _write_page(flags, q_model, wanted, data, checked)
    return _outcome(flags, float_model, data, exported, report, held_out)


def _check_ends(flags: argparse.Namespace, model: Any) -> None:
    """Refuses what `reconstruct` and `distill` would refuse behind the minutes of solving.

    Raises:
      ValueError: inputs or outputs that they do not take.
    """
    for name, kind, ends in (
        ("reconstruct", "input", model.inputs),
        ("distill", "input", model.inputs),
        ("distill", "output", model.outputs),
    ):
        if getattr(flags, name) and len(ends) != 1:
            raise ValueError(f"--{name}: expected a model with one {kind}, got {len(ends)}; leave it out")


def make_scheme(flags: argparse.Namespace) -> Any:
    """The scheme that the flags describe.

    Raises:
      ValueError: a flag that its scheme does not have, or a value outside its range.
    """
    from keras_dbq.schemes import DBQScheme, FATScheme, TSQScheme

    options: dict[str, Any] = {"on_unsupported": "skip" if flags.skip else "error"}
    overrides = dict(map(_choice, flags.set))
    if overrides:
        options["overrides"] = overrides
    if flags.scheme == "fat":
        given = [name for name in ("branches", "reconstruct", "basis") if getattr(flags, name)]
        if given:
            raise ValueError(f"--{given[0]}: expected with --scheme dbq or tsq, got --scheme fat; leave it out")
        return FATScheme(init=flags.init, **options)
    options["init"] = flags.init or "two_step"
    if flags.scheme == "tsq":
        return TSQScheme(branches=_branches(flags), codes="data", **options)
    return DBQScheme(_branches(flags), **options)


def _branches(flags: argparse.Namespace) -> int:
    """Ternary branches a weight, where nothing is said those of the scheme."""
    return flags.branches or (1 if flags.scheme == "tsq" else 2)


def _choice(text: str) -> tuple[str, dict[str, Any]]:
    """ "layer=bits" -> (layer, option of the scheme)."""
    layer, _, value = text.rpartition("=")
    if layer and value == FLOAT:
        return layer, {"skip": True}
    if not layer or not value.isdigit():
        raise ValueError(f"--set: expected LAYER=BITS or LAYER={FLOAT}, such as 'conv2d_1=8', got {text!r}")
    return layer, {"bits": int(value)}


def _save(q_model: Any, path: str) -> None:
    """A .keras file, completely or not at all."""
    import os
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory(dir=Path(path).resolve().parent, prefix=".keras_dbq.") as folder:
        part = Path(folder) / "model.keras"
        q_model.save(part)
        os.replace(part, path)


def _write_page(flags: argparse.Namespace, q_model: Any, float_model: Any, data: Any, checked: Any) -> None:
    from keras_dbq.reporting import report

    said = [("scheme", flags.scheme), ("command", shlex.join(["keras-dbq", *sys.argv[1:]])), ("data", str(data))]
    report(q_model, flags.output, flags.page, checked, float_model=float_model, facts=said)


def _outcome(
    flags: argparse.Namespace, float_model: Any, data: Any, exported: Any, report: Any, held_out: bool
) -> Outcome:
    float_bytes = 4 * float_model.count_params()
    size = exported.file_bytes_after
    where = "that were not used before" if held_out else "of the calibration (there were no others)"
    table = Table(["result", "value"])
    table.add("float weights", f"{float_bytes:,} bytes")
    table.add("int8 file", f"{exported.file_bytes_before:,} bytes")
    table.add(flags.output, f"{size:,} bytes, {size / float_bytes:.3f} of the float weights")
    table.add("verify", "passed" if report.passed else "FAILED: " + "; ".join(report.problems()))
    table.add("same class as the float model", f"{report.float_top1:.3f} of {report.examples} examples {where}")
    table.add("distance from its answers", f"{report.float_error:.3f} of their spread")
    advice = _advice(report, flags.scheme)
    findings = "".join(f"\n! {finding}" for finding in [*exported.findings, *advice])
    facts = {
        "model": flags.model,
        "output": flags.output,
        "data": data.source,
        "pictures": data.count,
        "range": data.range,
        "held_out": held_out,
        "float_bytes": float_bytes,
        "file_bytes": size,
        "passed": report.passed,
        "same_class": report.float_top1,
        "float_error": report.float_error,
        "advice": advice,
        "export": exported.to_dict(),
        "verify": json.loads(report.to_json()),
    }
    print(exported, file=sys.stderr)
    return Outcome(f"{table}{findings}", facts, report.passed)


def _advice(report: Any, scheme: str) -> list[str]:
    """What to try, in order, where the file seldom gives the float network's class: a proved file may be a bad one."""
    if not report.is_far_from_float:
        return []
    tries = ["about 1,000 photos of the kind that the network will see", "--distill 10"]
    if scheme != "fat":
        tries += ["--basis 60 where the network has linear bottlenecks, as MobileNetV2 has"]
        tries += ["--set LAYER=8 for the layers that --page shows to cost most", "--scheme fat"]
    share = f"{100 * report.float_top1:.0f} %"
    return [f"the file gives the float network's class in {share} of the examples only; try, in this order: "
            + "; ".join(tries)]  # fmt: skip


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=".keras (of Keras 3 or 2), .h5, or a SavedModel folder")
    picture_flags.add(parser, count=1000)
    add_output(parser, required=True)
    parser.add_argument(
        "--scheme",
        choices=("dbq", "fat", "tsq"),
        default="dbq",
        help="dbq: ternary branches, 8-bit activations (default); fat: 8 bit on trained thresholds; "
        "tsq: ternary weights, activations of 2 bits",
    )
    parser.add_argument(
        "--branches", type=int, choices=(1, 2, 3), help="ternary branches a weight (dbq: 2, tsq: 1 where not said)"
    )
    parser.add_argument(
        "--init",
        choices=("least_error", "two_step"),
        help="ternary codes that give the float network's outputs (two_step: minutes, the default), "
        "or those near to the float weights (seconds)",
    )
    parser.add_argument(
        "--basis",
        type=int,
        default=0,
        metavar="ROUNDS",
        help="first give linear bottlenecks (MobileNetV2, EfficientNet) a basis that suits ternary weights; try 60",
    )
    parser.add_argument(
        "--reconstruct", type=int, default=0, metavar="EPOCHS", help="train block by block, from the same pictures"
    )
    parser.add_argument(
        "--answers",
        choices=ANSWERS,
        help="what outputs that are logits belong to: their range is chosen for it, and with --reconstruct the last "
        "blocks learn the answers",
    )
    parser.add_argument("--distill", type=int, default=0, metavar="EPOCHS", help="train on the float model's answers")
    parser.add_argument(
        "--set", action="append", default=[], metavar="LAYER=BITS", help=f"bits of one layer, or {FLOAT}; repeatable"
    )
    parser.add_argument("--skip", action="store_true", help="leave layers without an integer form in float")
    parser.add_argument("--encoding", choices=("packed", "int8"), default="packed", help="of the file")
    parser.add_argument(
        "--page", metavar="FILE.html", help="also write a page: errors by layer, bytes, staircases, time"
    )
    parser.add_argument("--keep", metavar="FILE.keras", help="also write the quantized Keras model (verify reads it)")


COMMANDS = [
    Command("quantize", "quantize a Keras model with some pictures, export and prove the file", _add_flags, quantize)
]
