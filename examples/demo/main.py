"""The main job in a few minutes: float training, DBQ training, export, execution, verification, one table, plots.

Usage: python examples/demo/main.py (or: make demo)
"""

import os
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Behind everything else: where keras_dbq is installed, that one is used and not the source tree.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from absl import app, flags, logging

from examples.demo import demo

_OUT = flags.DEFINE_string("out", "out/demo", "Folder for the exported files, the plots and the table.")
_BRANCHES = flags.DEFINE_integer("branches", 2, "Ternary branches, 1 or 2.")
_EPOCHS = flags.DEFINE_integer("epochs", 40, "Epochs of float training; DBQ training takes half of it.")
_SEED = flags.DEFINE_integer("seed", 0, "Of initialisation and order of pictures.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only, got {argv[1:]}")
    logging.set_verbosity(logging.ERROR)  # the converter's advice is not for users of this program
    demo.run(Path(_OUT.value), _BRANCHES.value, _EPOCHS.value, _SEED.value)


if __name__ == "__main__":
    app.run(main)
