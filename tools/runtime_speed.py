"""Times our runtime beside the stock one, network by network and instruction set by instruction set.

    python -m tools.runtime_speed FOLDER [--only part ...] [--isa native avx512vnni avx2] [--rounds N] [--two-threads]

Writes what is missing of the networks' files into FOLDER (random weights, lively batch norms: time does not depend on
the numbers), then prints a table for each instruction set, in a process of its own: at "avx512vnni" and "avx2" both
sides are held to it (tools/hide_isa.py, KERAS_DBQ_ISA). Outputs are compared first; ours and stock run in turns, one
thread by its own clock; a figure is the median of the ratios of neighbours. Stock is LiteRT with XNNPACK on the int8
file.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_dbq import benchmark
from keras_dbq._table import Table
from keras_dbq.runtime import interpreter as runtime
from keras_dbq.runtime import library
from tools.hide_isa import hide

ISAS = ("native", "avx512vnni", "avx2")
ROUNDS, WARM_UP, ROUND_US = 101, 5, 2000.0
LOADS = 201


# networks


def _application(name: str, size: int) -> Callable[[], Any]:
    def build() -> Any:
        from keras_dbq.compat import keras

        return getattr(keras.applications, name)(input_shape=(size, size, 3), weights=None, classes=1000)

    return build


def _model(name: str, *arguments: Any, **options: Any) -> Callable[[], Any]:
    def build() -> Any:
        from keras_dbq import models

        return getattr(models, name)(*arguments, **options)

    return build


# name -> (float network, branches; 0: 8-bit weights, so that both files are int8)
NETWORKS: dict[str, tuple[Callable[[], Any], int]] = {
    "vww_96": (_model("mobilenet_v1", (96, 96, 3), classes=2, alpha=0.25), 1),
    "vww_96, two branches": (_model("mobilenet_v1", (96, 96, 3), classes=2, alpha=0.25), 2),
    "ResNet-8": (_model("resnet_cifar", 8), 1),
    "ResNet-20": (_model("resnet_cifar", 20), 1),
    "MobileNetV2 224": (_application("MobileNetV2", 224), 1),
    "MobileNetV2 96": (_application("MobileNetV2", 96), 1),
    "EfficientNetB0 96": (_application("EfficientNetB0", 96), 1),
    "EfficientNetB0 224": (_application("EfficientNetB0", 224), 1),
    "RegNetX002 96": (_application("RegNetX002", 96), 1),
    "MobileNetV3Small 96": (_application("MobileNetV3Small", 96), 1),
    "ResNet50V2 96": (_application("ResNet50V2", 96), 1),
    "ResNet50 96": (_application("ResNet50", 96), 1),
    "DenseNet121 96": (_application("DenseNet121", 96), 1),
    "InceptionV3 96": (_application("InceptionV3", 96), 1),
    "VGG16 96": (_application("VGG16", 96), 1),
    "vww_96, 8-bit weights": (_model("mobilenet_v1", (96, 96, 3), classes=2, alpha=0.25), 0),
    "MobileNetV2 96, 8-bit weights": (_application("MobileNetV2", 96), 0),
    "EfficientNetB0 96, 8-bit weights": (_application("EfficientNetB0", 96), 0),
    "DenseNet121 96, 8-bit weights": (_application("DenseNet121", 96), 0),
}


def _export(name: str, folder: Path) -> None:
    """Writes the packed and the int8 file of a network."""
    import keras_dbq
    from tests.property.networks import enliven

    build, branches = NETWORKS[name]
    model = enliven(build())
    x = np.random.default_rng(0).uniform(0, 1, (4, *model.input_shape[1:])).astype(np.float32)
    scheme = keras_dbq.DBQScheme(branches=branches) if branches else keras_dbq.FATScheme()
    q_model = keras_dbq.quantize_model(model, scheme, x)
    for fmt, path in zip(("packed", "int8"), _paths(name, folder), strict=True):
        keras_dbq.export_tflite(q_model, path, fmt, strict=True)


def _paths(name: str, folder: Path) -> tuple[Path, Path]:
    stem = "".join(c if c.isalnum() else "_" for c in name)
    return folder / f"{stem}_packed.tflite", folder / f"{stem}_int8.tflite"


# (height and width, channels, kernel, stride): of MobileNets and EfficientNetB0 at 224.
_DEPTHWISE = ((56, 128, 3, 1), (112, 32, 3, 1), (112, 96, 3, 2), (28, 240, 5, 1), (14, 672, 5, 1), (56, 144, 5, 2))


def _layers() -> dict[str, tuple[bytes, bytes]]:
    """Single operators: (file for ours, file for stock)."""
    from tests.tflite_ops.packed_models import Case, int8_model, packed_model

    dense = Case("fully_connected", (1, 1024), 1000)
    found = {"dense 1024x1000": (packed_model(dense), int8_model(dense))}
    for size, channels, kernel, stride in _DEPTHWISE:
        shape, strides = (1, size, size, channels), (stride, stride)
        case = Case("depthwise_conv2d", shape, channels, (kernel, kernel), strides, multiplier=1)
        name = f"depthwise {kernel}x{kernel}, {size}x{size}x{channels}{', stride 2' if stride == 2 else ''}"
        found[name] = (int8_model(case), int8_model(case))
    return found


# times


def _measure(packed: bytes, int8: bytes, threads: int, rounds: int) -> dict[str, list[float]]:
    """Microseconds of every round of ours on both files and of stock, after all outputs were found equal."""
    stock = runtime.open_runtime(int8, threads, None)
    models = {"packed": runtime.open_runtime(packed, threads, {}), "int8": runtime.open_runtime(int8, threads, {})}
    for model in models.values():
        benchmark._check_outputs(model, stock)
    models["stock"] = stock
    clock = time.thread_time if threads == 1 else time.perf_counter
    count = max(1, int(ROUND_US / max(benchmark._turn(stock.invoke, 3), 1e-3)))
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(WARM_UP + rounds):
        for name, model in models.items():
            times[name].append(benchmark._turn(model.invoke, count, clock))
    return {name: column[WARM_UP:] for name, column in times.items()}


def _ratio(ours: list[float], stock: list[float]) -> str:
    """Median, 10th and 90th percentile."""
    ratios = np.array(ours) / np.array(stock)
    low, middle, high = np.percentile(ratios, [10, 50, 90])
    return f"{middle:.3f} ({low:.2f}-{high:.2f})"


def _table(folder: Path, wanted: Callable[[str], bool], rounds: int, two_threads: bool) -> Table:
    columns = ["network", "stock us", "packed us", "packed / stock", "int8, ours / stock"]
    table = Table([*columns, "packed, 2 threads / 1"] if two_threads else columns)
    files = {name: _paths(name, folder) for name in NETWORKS if wanted(name)}
    contents = {name: (a.read_bytes(), b.read_bytes()) for name, (a, b) in files.items()}
    contents.update({name: pair for name, pair in _layers().items() if wanted(name)})
    for name, (packed, int8) in contents.items():
        times = _measure(packed, int8, 1, rounds)
        threads = [_two_threads(packed, rounds)] if two_threads else []
        medians = [f"{statistics.median(times[key]):.1f}" for key in ("stock", "packed")]
        table.add(name, *medians, *(_ratio(times[k], times["stock"]) for k in ("packed", "int8")), *threads)
        print(".", end="", file=sys.stderr, flush=True)
    return table


def _two_threads(packed: bytes, rounds: int) -> str:
    """Two threads against one, both by the clock on the wall."""
    one, two = (runtime.open_runtime(packed, threads, {}) for threads in (1, 2))
    count = max(1, int(ROUND_US / max(benchmark._turn(one.invoke, 3), 1e-3)))
    turns = [(benchmark._turn(two.invoke, count), benchmark._turn(one.invoke, count)) for _ in range(rounds)]
    return _ratio(*map(list, zip(*turns, strict=True)))


def _loads(folder: Path) -> str:
    """From the bytes to the first result, in turns with the stock interpreter, which looks at no file first."""
    packed, int8 = (path.read_bytes() for path in _paths("vww_96", folder))
    codes = np.random.default_rng(0).integers(-128, 128, (1, 96, 96, 3)).astype(np.int8)
    table = Table(["vww_96, file to first result in", "ours ms", "stock ms", "ours / stock"])
    loads: dict[str, Callable[[], Any]] = {
        "the runtime's own interpreter": lambda: _bare_load(packed, codes, {}),
        "keras_dbq.Interpreter": lambda: _checked_load(packed, codes),
    }
    for name, load in loads.items():
        turns = [(_once(load), _once(lambda: _bare_load(int8, codes, None))) for _ in range(WARM_UP + LOADS)]
        ours, stock = map(list, zip(*turns[WARM_UP:], strict=True))
        table.add(name, *(f"{statistics.median(t):.2f}" for t in (ours, stock)), _ratio(ours, stock))
    return str(table)


def _once(load: Callable[[], Any]) -> float:
    """Milliseconds by the thread's own clock, without what it takes to give everything back."""
    start = time.thread_time()
    kept = load()
    elapsed = (time.thread_time() - start) * 1000
    del kept
    return elapsed


def _checked_load(content: bytes, codes: np.ndarray) -> Any:
    model = runtime.Interpreter(content)
    return model, model.predict(codes)


def _bare_load(content: bytes, codes: np.ndarray, delegate: dict[str, str] | None) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    delegates = [] if delegate is None else [library.Delegate(delegate)]
    model = Interpreter(model_content=content, num_threads=1, experimental_delegates=delegates)
    model.allocate_tensors()
    model.set_tensor(model.get_input_details()[0]["index"], codes)
    model.invoke()
    return model, model.get_tensor(model.get_output_details()[0]["index"])


# the command


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.runtime_speed", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the networks' files are, or are written")
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of the wanted rows")
    parser.add_argument("--isa", nargs="*", default=list(ISAS), choices=ISAS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--two-threads", action="store_true", help="also two against one, by the clock on the wall")
    parser.add_argument("--in-this-process", action="store_true", help="one instruction set; files have to be there")
    flags = parser.parse_args(arguments)
    warnings.simplefilter("ignore")

    def wanted(name: str) -> bool:
        return not flags.only or any(part in name for part in flags.only)

    if flags.in_this_process:
        _print(flags, wanted)
        return 0
    flags.folder.mkdir(parents=True, exist_ok=True)
    for name in filter(wanted, NETWORKS):
        if not all(path.is_file() for path in _paths(name, flags.folder)):
            _export(name, flags.folder)
            print(f"exported {name}", file=sys.stderr, flush=True)
    common = [str(flags.folder), "--rounds", str(flags.rounds), "--in-this-process", "--only", *flags.only]
    common += ["--two-threads"] if flags.two_threads else []
    codes = [
        subprocess.run([sys.executable, "-m", "tools.runtime_speed", *common, "--isa", isa], env=_environment(isa))
        for isa in flags.isa
    ]
    return max(code.returncode for code in codes)


def _environment(isa: str) -> dict[str, str]:
    return {**os.environ, **({} if isa == "native" else {"KERAS_DBQ_ISA": isa})}


def _print(flags: argparse.Namespace, wanted: Callable[[str], bool]) -> None:
    (isa,) = flags.isa
    if isa != "native":
        try:
            hide(isa)
        except RuntimeError as error:
            print(f"{isa}: left out; {error}")
            return
    table = _table(flags.folder, wanted, flags.rounds, flags.two_threads)
    print(f"\n{benchmark.cpu_name()}, {isa}, {flags.rounds} rounds in turns, outputs equal\n{table}")
    if wanted("vww_96"):
        print(f"\n{_loads(flags.folder)}")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
