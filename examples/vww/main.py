"""MobileNetV1 0.25 on Visual Wake Words: DBQ training by distillation, export, accuracy of the exported file.

Usage: python examples/vww/main.py --help
"""

import os
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Behind everything else: where keras_dbq is installed, that one is used and not the source tree.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from absl import app, flags, logging

from examples.vww import train

_DATA = flags.DEFINE_string("data", "digits", "digits, a path to an .npz of arrays, or a tfds name.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints, files and results.json.", required=True)
_FLOAT_MODEL = flags.DEFINE_string("float_model", "", "A .keras or .h5 file; empty trains one first.")
_EPOCHS = flags.DEFINE_integer("epochs", 20, "Epochs of DBQ training, and of float training without --float_model.")
_BRANCHES = flags.DEFINE_integer("branches", 2, "Ternary branches; 0 trains the float model only.")
_SCHEME = flags.DEFINE_string("scheme", "", "DBQScheme settings, e.g. forward=smooth,thresholds=trained.")
_DISTILL = flags.DEFINE_float("distill", 0.0, "Weight of distillation from the float model, 0 to 1.")
_SEED = flags.DEFINE_integer("seed", 0, "Of initialisation, order of pictures and augmentation.")
_HPARAMS = flags.DEFINE_string("hparams", "", f"Any of {', '.join(train.HPARAMS)} as name=value,...")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only, got {argv[1:]}")
    logging.set_verbosity(logging.ERROR)  # the converter's advice is not for users of this program
    train.run(
        data=_DATA.value,
        workdir=Path(_WORKDIR.value),
        float_model=_FLOAT_MODEL.value,
        epochs=_EPOCHS.value,
        branches=_BRANCHES.value,
        scheme=_SCHEME.value,
        distill=_DISTILL.value,
        seed=_SEED.value,
        hparams=_HPARAMS.value,
    )


if __name__ == "__main__":
    app.run(main)
