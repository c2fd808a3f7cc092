"""Trained thresholds: any Keras model file and any pictures in, an int8 .tflite and a table out.

Usage: python examples/thresholds/main.py --model model.keras --data photos/ --range=-1,1 --workdir out/thresholds
"""

import os
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Behind everything else: where keras_dbq is installed, that one is used and not the source tree.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from absl import app, flags, logging

from examples.thresholds import pipeline

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "model", None, "Float model of tf_keras or Keras 3: .keras, .h5 or a SavedModel folder.", required=True
)
flags.DEFINE_string("data", None, "Unlabelled pictures to learn from: a folder or an .npz.", required=True)
flags.DEFINE_string("test", "", "Pictures that measure, with labels where there are; empty: a fifth of --data.")
flags.DEFINE_string("range", "", "What the network takes for pixel values 0 and 255, such as 0,1 or -1,1.")
flags.DEFINE_string("workdir", None, "Folder for the files and results.json.", required=True)
flags.DEFINE_string("scheme", "", "FATScheme settings, e.g. mode=scalar,symmetric=True.")
flags.DEFINE_string(
    "stages",
    None,
    f"In order, of {', '.join(pipeline.STAGES)}; empty: calibration only. Unset: "
    "ranges,thresholds,answers, or, with mode=scalar, equalize,thresholds,answers.",
)
flags.DEFINE_integer("epochs", 3, "Of each trained stage.")
flags.DEFINE_bool("stock", True, "Also measure the stock converter's post-training quantization.")
flags.DEFINE_string("hparams", "", f"Any of {', '.join(pipeline.HPARAMS)} as name=value,...")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only, got {argv[1:]}")
    logging.set_verbosity(logging.ERROR)  # the converter's advice is not for users of this program
    pipeline.run(
        FLAGS.model,
        FLAGS.data,
        Path(FLAGS.workdir),
        test=FLAGS.test,
        value_range=FLAGS["range"].value,
        scheme=FLAGS.scheme,
        stages=FLAGS.stages,
        epochs=FLAGS.epochs,
        stock=FLAGS.stock,
        hparams=FLAGS.hparams,
    )


if __name__ == "__main__":
    app.run(main)
