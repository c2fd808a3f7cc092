"""Two-step quantization: codes as activations, then ternary weights; export, and the code error of every layer.

Usage: python examples/two_step/main.py --help
"""

import os
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Behind everything else: where keras_dbq is installed, that one is used and not the source tree.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from absl import app, flags, logging

from examples.two_step import pipeline

FLAGS = flags.FLAGS
flags.DEFINE_string("data", "digits", "digits, a path to an .npz of arrays, or a tfds name.")
flags.DEFINE_string("workdir", None, "Folder for checkpoints, files, the plot and results.json.", required=True)
flags.DEFINE_integer("epochs", 25, "Of step 1: activations as codes, weights at 8 bits, from scratch.")
flags.DEFINE_integer("tune_epochs", 5, "Of the fine-tuning behind step 2, and of TWN; 0: none.")
flags.DEFINE_string("scheme", "", "TSQScheme settings, e.g. activation_bits=2,sparsity=0.75.")
flags.DEFINE_integer("branches", 1, "Ternary branches of step 2; 0 stops after step 1.")
flags.DEFINE_bool("twn", False, "Also train ternary weights straight from their fit, for as many epochs (TWN).")
flags.DEFINE_bool(
    "ablation", False, "Also the float network and other sparsities; step 1 with float weights in all rows."
)
flags.DEFINE_integer("seed", 0, "Of initialisation, order of pictures and augmentation.")
flags.DEFINE_string("hparams", "", f"Any of {', '.join(pipeline.TASK.defaults)} as name=value,...")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only, got {argv[1:]}")
    logging.set_verbosity(logging.ERROR)  # the converter's advice is not for users of this program
    names = ("epochs", "tune_epochs", "scheme", "branches", "twn", "ablation", "seed", "hparams")
    pipeline.run(FLAGS.data, Path(FLAGS.workdir), **{name: FLAGS[name].value for name in names})


if __name__ == "__main__":
    app.run(main)
