"""Times a file in our interpreter beside another in the stock one: `python -m keras_dbq.benchmark a.tflite [b.tflite]`.

Both files have to compute the same codes, which is looked at first; without a second file the first one's int8 twin is
taken. They run in turns in one process, so that what else the machine does meets both, and the figure is the median of
the ratios of neighbours. A table tells where our time goes, operator by operator, beside the most multiply-adds in a
second that this processor reached on a large matrix product in the same run.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_dbq._table import Table
from keras_dbq.runtime import interpreter as runtime
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.operators import BUILTIN_OPS
from keras_dbq.tflite.unpack import unpack_tflite

EXAMPLES = 8  # compared before anything is timed
ROUND_US = 2000.0  # a turn is long enough for the clock
WARM_UP = 20  # rounds that do not count
LOADS = 15  # of each file
_STATUS = Path("/proc/self/status")


@dataclass
class Step:
    """One step of our plan."""

    name: str  # operator and output
    kernel: str
    threads: int
    microseconds: float
    macs: int  # multiply-adds of the operator, 0 where it has none


@dataclass
class Memory:
    """Bytes. Those of a process are None where the system does not tell."""

    arena: int  # our activations
    scratch: int  # of all our threads
    weights: int  # ours, in the layout of the kernels
    file_ours: int
    file_stock: int
    process_ours: int | None  # what loading and a first run added to a fresh process
    process_stock: int | None


@dataclass
class Report:
    """What was measured. Times in microseconds of a run."""

    threads: int
    rounds: int
    ours: list[float]
    stock: list[float]
    load_ours: float  # from bytes to the first result, milliseconds
    load_stock: float
    memory: Memory
    steps: list[Step] = field(default_factory=list)
    peak: float = 0.0  # multiply-adds in a nanosecond

    @property
    def ratio(self) -> float:
        """Median over the rounds of ours / stock."""
        return statistics.median(self._ratios())

    def _ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.ours, self.stock, strict=True)]

    def __str__(self) -> str:
        table = Table(["", "median us", "p10", "p90", "load ms"])
        for name, times, load in (("ours", self.ours, self.load_ours), ("stock", self.stock, self.load_stock)):
            low, high = np.percentile(times, [10, 90])
            table.add(name, f"{statistics.median(times):.1f}", f"{low:.1f}", f"{high:.1f}", f"{load:.2f}")
        low, high = np.percentile(self._ratios(), [10, 90])
        head = f"{cpu_name()}, {self.threads} thread(s), {self.rounds} rounds in turns, outputs equal"
        ratio = f"ours / stock: {self.ratio:.3f} (p10 {low:.3f}, p90 {high:.3f})"
        parts = [head, str(table), ratio, self._memory_table(), self._steps_table(), self._roofline()]
        return "\n\n".join(parts)

    def _memory_table(self) -> str:
        m = self.memory
        table = Table(["KiB", "file", "weights in use", "activations", "scratch", "process grows by"])
        table.add("ours", *map(_kib, (m.file_ours, m.weights, m.arena, m.scratch, m.process_ours)))
        table.add("stock", _kib(m.file_stock), "", "", "", _kib(m.process_stock))
        return str(table)

    def _steps_table(self) -> str:
        table = Table(["us", "share", "threads", "GMAC/s", "of peak", "kernel", "operator"])
        total = sum(step.microseconds for step in self.steps)
        for step in self.steps:
            rate = step.macs / step.microseconds / 1000 if step.macs else 0.0
            table.add(
                f"{step.microseconds:.2f}",
                f"{step.microseconds / total:.3f}",
                step.threads,
                f"{rate:.0f}" if rate else "",
                f"{rate / self.peak:.2f}" if rate and self.peak else "",
                step.kernel,
                step.name,
            )
        return f"steps of ours, each the shortest of its runs\n{table}"

    def _roofline(self) -> str:
        total = sum(step.microseconds for step in self.steps)
        macs = sum(step.macs for step in self.steps)
        if not total or not self.peak:
            return "no step of ours was timed"
        rate = macs / total / 1000
        return (
            f"steps together {total:.1f} us; {macs / 1e6:.2f} M multiply-adds, {rate:.0f} GMAC/s, "
            f"{rate / self.peak:.2f} of the {self.peak:.0f} GMAC/s of a large matrix product in this run"
        )


def compare(
    ours: bytes, stock: bytes, *, threads: int = 1, rounds: int = 300, isa: str = "auto", peak: bool = True
) -> Report:
    """Times `ours` with the delegate and `stock` without, after their outputs were found equal.

    Args:
        ours: file for our interpreter, packed or int8.
        stock: file for the stock interpreter, without packed operators.
        threads: of both.
        rounds: turns of each file that count.
        isa: the most that our kernels may use.
        peak: also time a large matrix product, for the share of the peak.

    Raises:
        ValueError: the outputs differ, or a file does not load.
    """
    a, b = runtime.open_runtime(ours, threads, {"isa": isa}), runtime.open_runtime(stock, threads, None)
    _check_outputs(a, b)
    # One thread is timed by its own clock, in which other programs' time does not count.
    clock = time.thread_time if threads == 1 else time.perf_counter
    times_a, times_b = _in_turns(a.invoke, b.invoke, rounds, clock)
    loads = [(_load(ours, threads, {"isa": isa}, clock), _load(stock, threads, None, clock)) for _ in range(LOADS)]
    load_a, load_b = (statistics.median(column) for column in zip(*loads, strict=True))
    steps, (arena, scratch, weights) = _profile(ours, threads, isa)
    grown_a, grown_b = _process_growth(ours, threads, {"isa": isa}), _process_growth(stock, threads, None)
    memory = Memory(arena, scratch, weights, len(ours), len(stock), grown_a, grown_b)
    report = Report(threads, rounds, times_a, times_b, load_a, load_b, memory, steps)
    if peak:
        report.peak = _peak(isa)
    return report


def _load(
    content: bytes, threads: int, options: dict[str, str] | None, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Milliseconds from the bytes of a file to its first result."""
    start = clock()
    model = runtime.open_runtime(content, threads, options)
    _set_inputs(model, 0)
    model.invoke()
    return (clock() - start) * 1000


def _kib(size: int | None) -> str:
    return "" if size is None else f"{size / 1024:.1f}"


def _process_growth(content: bytes, threads: int, options: dict[str, str] | None) -> int | None:
    """Bytes of its own, not of files, that loading and a first run add to a fresh process."""
    if not _STATUS.is_file():
        return None
    code = "import sys; from keras_dbq import benchmark; benchmark._print_growth(*sys.argv[1:])"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.tflite"
        path.write_bytes(content)
        command = [sys.executable, "-c", code, str(path), str(threads), json.dumps(options)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def _print_growth(path: str, threads: str, options: str) -> None:
    content, delegate = Path(path).read_bytes(), json.loads(options)
    _load(_product(1, 8, 8), 1, {} if delegate is not None else None)  # what any file loads: libraries, Python's own
    before = _own_bytes()
    model = runtime.open_runtime(content, int(threads), delegate)
    _set_inputs(model, 0)
    model.invoke()
    print(_own_bytes() - before)


def _own_bytes() -> int:
    """Memory of this process that is in use and no file's."""
    gc.collect()
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def _set_inputs(model: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for detail in model.get_input_details():
        dtype, shape = np.dtype(detail["dtype"]), detail["shape"]
        limits = np.iinfo(dtype) if dtype.kind in "iu" else None
        values = rng.normal(size=shape) if limits is None else rng.integers(limits.min, limits.max + 1, shape)
        model.set_tensor(detail["index"], values.astype(dtype))


def _outputs(model: Any) -> list[np.ndarray]:
    return [model.get_tensor(detail["index"]) for detail in model.get_output_details()]


def _check_outputs(a: Any, b: Any) -> None:
    for seed in range(EXAMPLES):
        for model in (a, b):
            _set_inputs(model, seed)
            model.invoke()
        pairs = list(zip(_outputs(a), _outputs(b), strict=True))
        if any(x.shape != y.shape for x, y in pairs):
            raise ValueError("files: expected outputs of the same shapes, got others; are they the same network?")
        differing = sum(int(np.count_nonzero(x != y)) for x, y in pairs)
        if differing:
            raise ValueError(f"files: expected equal outputs of random inputs (seed {seed}), got {differing} codes off")


def _in_turns(
    a: Callable[[], None], b: Callable[[], None], rounds: int, clock: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Microseconds of a run, turn by turn."""
    count = max(1, int(ROUND_US / max(_turn(b, 3), 1e-3)))
    turns = [(_turn(a, count, clock), _turn(b, count, clock)) for _ in range(WARM_UP + rounds)][WARM_UP:]
    return [x for x, _ in turns], [y for _, y in turns]


def _turn(run: Callable[[], None], count: int, clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    for _ in range(count):
        run()
    return (clock() - start) / count * 1e6


# steps


def _profile(content: bytes, threads: int, isa: str) -> tuple[list[Step], list[int]]:
    """(our steps; bytes of arena, scratch and weights), which the delegate writes when its interpreter ends."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profile"
        model = runtime.open_runtime(content, threads, {"isa": isa, "profile": str(path)})
        _set_inputs(model, 0)
        count = max(20, min(2000, int(5e5 / max(_turn(model.invoke, 3), 1e-3))))
        _turn(model.invoke, count)
        del model
        gc.collect()
        lines = [line.split("\t") for line in path.read_text().splitlines()] if path.is_file() else []
    macs = multiply_adds(content)
    partitions = [[0, 0, 0], *([int(n) for n in line[1:]] for line in lines if line[0] == "memory")]
    steps = [_step(line, macs) for line in lines if line[0] != "memory"]
    return steps, [sum(column) for column in zip(*partitions, strict=True)]


def _step(line: list[str], macs: dict[str, int]) -> Step:
    microseconds, threads, kernel, name = line
    output = name.partition("'")[2].rpartition("'")[0]
    return Step(name, kernel, int(threads), float(microseconds), macs.get(output, 0) if kernel else 0)


def multiply_adds(content: bytes) -> dict[str, int]:
    """{name of the output: multiply-adds of one run} of the operators with weights."""
    model = fb.parse(content)
    graph, found = model.subgraphs[0], {}
    for operator in graph.operators:
        name = fb.op_name(model, operator)
        name = BUILTIN_OPS.get(name, name)
        if name not in BUILTIN_OPS.values():
            continue
        output = graph.tensors[operator.outputs[0]]
        elements = int(np.prod(fb.shape_of(output)))
        found[fb.text(output.name)] = elements * _depth(model, operator, name)
    return found


def _depth(model: Any, operator: Any, name: str) -> int:
    """Products in one output."""
    if len(operator.inputs) == 6:  # packed: docs/packing.md, params
        params = fb.constant(model, operator.inputs[5])
        taps, channels = int(params[2]) * int(params[3]), int(params[4])
        return taps if name == "DEPTHWISE_CONV_2D" else taps * channels
    shape = fb.shape_of(model.subgraphs[0].tensors[operator.inputs[1]])
    return int(np.prod(shape[1:3])) if name == "DEPTHWISE_CONV_2D" else int(np.prod(shape[1:]))


# the processor


def cpu_name() -> str:
    """The processor as Linux names it."""
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.is_file() else []:
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def _peak(isa: str) -> float:
    """Multiply-adds in a nanosecond of a matrix product whose operands stay in the second-level cache, one thread."""
    rows, depth, channels = 384, 1024, 256
    model = runtime.open_runtime(_product(rows, depth, channels), 1, {"isa": isa, "builtins": "all"})
    shortest = min(_turn(model.invoke, 1) for _ in range(200))
    return rows * depth * channels / shortest / 1000


def _product(rows: int, depth: int, channels: int) -> bytes:
    """A file of one FULLY_CONNECTED operator."""
    schema = fb.schema
    model = schema.ModelT()
    model.version, model.buffers, model.description = 3, [schema.BufferT()], "matrix product"
    graph = schema.SubGraphT()
    model.subgraphs, graph.tensors, graph.inputs, graph.outputs = [graph], [], [0], [3]
    x_scale, w_scale = np.full(1, 0.02, np.float32), np.full(channels, 0.01, np.float32)
    rng = np.random.default_rng(0)
    _add_activation(model, "x", (rows, depth), x_scale)
    fb.add_tensor(model, rng.integers(-127, 128, (channels, depth)).astype(np.int8), "w", fb.quantization(w_scale))
    fb.add_tensor(model, np.zeros(channels, np.int32), "b", fb.quantization(x_scale * w_scale))
    _add_activation(model, "y", (rows, channels), np.ones(1, np.float32))
    model.operatorCodes = []
    operator = schema.OperatorT()
    operator.opcodeIndex = fb.operator_code(model, "FULLY_CONNECTED", 4)
    operator.inputs, operator.outputs = np.array([0, 1, 2], np.int32), np.array([3], np.int32)
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    graph.operators = [operator]
    return fb.save_model(model)


def _add_activation(model: Any, name: str, shape: tuple[int, ...], scale: np.ndarray) -> None:
    tensor = fb.schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = (
        name,
        np.array(shape, np.int32),
        fb.schema.TensorType.INT8,
        0,
    )
    tensor.quantization = fb.quantization(scale)
    model.subgraphs[0].tensors.append(tensor)


# the command


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report; 1 after an error, which is one line."""
    parser = argparse.ArgumentParser(prog="python -m keras_dbq.benchmark", description=__doc__.splitlines()[0])
    parser.add_argument("ours", help="file for our interpreter, packed or int8")
    parser.add_argument("stock", nargs="?", help="file for the stock interpreter; without: the first one's int8 twin")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--isa", default="auto", help="the most that our kernels may use")
    flags = parser.parse_args(arguments)
    try:
        ours = runtime.read(flags.ours)
        stock = runtime.read(flags.stock) if flags.stock else int8_twin(ours)
        print(compare(ours, stock, threads=flags.threads, rounds=flags.rounds, isa=flags.isa))
    except (ValueError, RuntimeError, OSError) as error:
        print(f"benchmark: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def int8_twin(content: bytes) -> bytes:
    packed = any(name.encode() in content for name in BUILTIN_OPS)
    return unpack_tflite(content) if packed else content


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
