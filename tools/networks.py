"""Prints what becomes of the small networks of `tests/zoo.py`: `python -m tools.networks [part of a name ...]`.

Every row has passed everything that `tests/test_zoo.py` asks: strict export, packed file = int8 file = numpy engine in
every byte, Keras' layers compute the file's codes, and the model gives the same files after saving and loading.
"""

import sys
import tempfile
import warnings
from pathlib import Path

from keras_dbq._table import Table
from keras_dbq.reference import Engine
from tests import zoo
from tests.test_zoo import SCHEMES


def main(parts: list[str]) -> int:
    """The number of networks and schemes that failed."""
    warnings.simplefilter("ignore")
    table, failed = Table(["network", "scheme", "operators", "int8 bytes", "packed bytes", "result"]), 0
    for name, build in zoo.NETWORKS.items():
        for scheme, make in SCHEMES.items():
            if parts and not any(part in f"{name}, {scheme}" for part in parts):
                continue
            with tempfile.TemporaryDirectory() as folder:
                try:
                    packed, int8 = zoo.examine(build(), make(), Path(folder) / "model.keras")
                    row = len(Engine(int8).model.operators), len(int8), len(packed), "equal"
                except Exception as error:
                    failed += 1
                    row = 0, 0, 0, f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
            table.add(name, scheme, *row)
            print(f"{len(table)}: {name}, {scheme}: {row[-1]}", file=sys.stderr, flush=True)
    print(table)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
