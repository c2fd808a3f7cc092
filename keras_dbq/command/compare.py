"""`verify`, `report` and `benchmark`: whether a file computes what was trained, where its errors are, its time."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from keras_dbq import benchmark as speed
from keras_dbq.command import startup
from keras_dbq.command.outcome import Command, Outcome, add_output, check_output
from keras_dbq.runtime import interpreter


def verify(flags: argparse.Namespace) -> Outcome:
    """Keras, numpy and interpreter on the same pictures, code for code."""
    startup.load_tensorflow()
    from keras_dbq.command import pictures
    from keras_dbq.keras3.files import load_model
    from keras_dbq.runtime.verification import verify as compare
    from keras_dbq.wrapping import wrappers

    model = load_model(flags.model)
    wrappers.check_quantized(model, f"verify {flags.model}")
    data = pictures.read(flags.data, model, flags.pictures, flags.range, flags.seed)
    report = compare(model, flags.file, data.x, raise_on_failure=False)
    facts = {"model": flags.model, "file": flags.file, "range": data.range, "passed": report.passed}
    return Outcome(f"{data}\n{report}", facts | json.loads(report.to_json()), report.passed)


def report(flags: argparse.Namespace) -> Outcome:
    """The page of a quantized model and its file."""
    check_output(flags.output, flags.force)
    startup.load_tensorflow()
    from keras_dbq.command import pictures
    from keras_dbq.keras3.files import load_model
    from keras_dbq.reporting import report as write
    from keras_dbq.wrapping import wrappers

    model = load_model(flags.model)
    wrappers.check_quantized(model, f"report {flags.model}")
    float_model = load_model(flags.float_model) if flags.float_model else None
    data = pictures.read(flags.data, model, flags.pictures, flags.range, flags.seed)
    facts = [("model", flags.model), ("data", str(data))]
    verified = write(model, flags.file, flags.output, data.x, float_model=float_model, facts=facts)
    written = {"model": flags.model, "file": flags.file, "page": flags.output, "passed": verified.passed}
    return Outcome(f"{flags.output}: verify {'passed' if verified.passed else 'FAILED'}", written, verified.passed)


def benchmark(flags: argparse.Namespace) -> Outcome:
    """Each file in our interpreter beside its int8 twin in the stock one."""
    texts: list[str] = []
    reports: list[dict[str, Any]] = []
    for path in flags.files:
        content = interpreter.read(path)
        stock = speed.int8_twin(content) if flags.stock is None else interpreter.read(flags.stock)
        report = speed.compare(content, stock, threads=flags.threads, rounds=flags.rounds, isa=flags.isa)
        texts.append(f"{path}\n\n{report}")
        reports.append({"file": path, "cpu": speed.cpu_name(), "ratio": report.ratio, **asdict(report)})
    return Outcome("\n\n".join(texts), {"files": reports})


def _add_verify(parser: argparse.ArgumentParser) -> None:
    from keras_dbq.command import picture_flags

    parser.add_argument("model", metavar="MODEL", help="the quantized Keras model (quantize --keep writes it)")
    parser.add_argument("file", metavar="FILE", help="the .tflite file that was exported from it")
    picture_flags.add(parser, count=50)


def _add_report(parser: argparse.ArgumentParser) -> None:
    _add_verify(parser)
    add_output(parser, required=True)
    parser.add_argument("--float-model", metavar="MODEL", help="the network before quantization, for errors by layer")


def _add_benchmark(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="packed or int8 .tflite files")
    parser.add_argument("--stock", metavar="FILE", help="file for the stock interpreter; default: the int8 twin")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=300, help="turns of each file that count (default 300)")
    parser.add_argument("--isa", default="auto", help="the most that our kernels may use")


COMMANDS = [
    Command("verify", "prove that a file computes what its Keras model computes", _add_verify, verify),
    Command("report", "write a page (HTML) about a quantized model and its file", _add_report, report),
    Command("benchmark", "time a file beside the stock interpreter, outputs checked first", _add_benchmark, benchmark),
]
