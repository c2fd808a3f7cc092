"""Prints what becomes of `keras.applications`: `python -m tools.applications [--all] [part of a name ...]`.

Each network has random weights and lively batch norms, and runs at the smallest input that it takes and at an odd one.
A row has passed what `tests/zoo.examine` asks: strict export, packed file = int8 file = numpy engine in every byte,
Keras' layers compute the file's codes, and the model gives the same files after saving and loading. Without --all one
network of each family; the others differ in depth and width alone.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from keras_dbq._table import Table
from keras_dbq.compat import keras
from keras_dbq.reference import Engine
from tests import zoo
from tests.property.networks import enliven
from tests.test_zoo import SCHEMES

# One of each family, with the smallest input that it takes.
FAMILIES = {
    "MobileNet": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "MobileNetV3Large": 32,
    "EfficientNetB0": 32,
    "EfficientNetV2B0": 32,
    "NASNetMobile": 32,
    "DenseNet121": 32,
    "RegNetX002": 32,
    "RegNetY002": 32,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "ResNetRS50": 32,
    "VGG16": 32,
    "Xception": 71,
    "InceptionV3": 75,
    "InceptionResNetV2": 75,
}
ODD = 13  # pixels more, for the second size: odd, and no multiple of a stride


def networks(everything: bool) -> Iterator[tuple[str, int]]:
    """(name, size) of the networks."""
    names = [name for name in dir(keras.applications) if name[0].isupper()] if everything else list(FAMILIES)
    for name in names:
        smallest = next((size for family, size in FAMILIES.items() if name.startswith(family[:8])), 32)
        yield from ((name, smallest), (name, smallest + ODD + (smallest + ODD + 1) % 2))


def build(name: str, size: int) -> Any:
    """The network with random weights, for ten classes."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    make = getattr(keras.applications, name)
    return enliven(make(input_shape=(size, size, 3), weights=None, classes=10))


def main(arguments: list[str]) -> int:
    """The number of rows that failed."""
    warnings.simplefilter("ignore")
    parts = [argument for argument in arguments if argument != "--all"]
    table = Table(["network", "input", "scheme", "operators", "int8 bytes", "packed bytes", "seconds", "result"])
    failed = 0
    for name, size in networks("--all" in arguments):
        for scheme, make in SCHEMES.items():
            if parts and not any(part in f"{name}, {size}, {scheme}" for part in parts):
                continue
            started = time.perf_counter()
            row = _row(name, size, make)
            failed += row[-1] != "equal"
            seconds = f"{time.perf_counter() - started:.0f}"
            table.add(name, size, scheme, *row[:-1], seconds, row[-1])
            print(f"{name}, {size}, {scheme}: {row[-1]}, {seconds} s", file=sys.stderr, flush=True)
    print(table)
    return failed


def _row(name: str, size: int, scheme: Callable[[], Any]) -> tuple[Any, ...]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            packed, int8 = zoo.examine(build(name, size), scheme(), Path(folder) / "model.keras")
        except Exception as error:  # whatever went wrong is the row's result
            return "-", "-", "-", f"{type(error).__name__}: {str(error).splitlines()[0][:90]}"
    return len(Engine(int8).model.operators), len(int8), len(packed), "equal"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
