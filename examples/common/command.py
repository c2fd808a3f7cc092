"""The command line of a training example: its flags, the same for every example."""

from __future__ import annotations

from pathlib import Path

from absl import app, flags, logging

from examples.common import distribution, pipeline
from examples.common.task import Task

FLAGS = flags.FLAGS
NAMES = (
    "float_model",
    "epochs",
    "branches",
    "scheme",
    "distill",
    "seed",
    "hparams",
    "strategy",
    "patience",
    "tensorboard",
)
flags.disclaim_key_flags()  # --help of an example shows them as its own


def run(task: Task, float_model_help: str) -> None:
    """Defines the flags, parses them and runs the example; does not return.

    Args:
      task: what sets the example apart.
      float_model_help: which files --float_model takes.
    """
    flags.DEFINE_string("data", "digits", "digits, a path to an .npz of arrays, or a tfds name.")
    flags.DEFINE_string("workdir", None, "Folder for checkpoints, files and results.json.", required=True)
    flags.DEFINE_string("float_model", "", f"{float_model_help}; empty trains one first.")
    flags.DEFINE_integer("epochs", 20, "Epochs of DBQ training, and of float training without --float_model; 0: none.")
    flags.DEFINE_integer("branches", 2, "Ternary branches; 0 trains the float model only.")
    flags.DEFINE_string("scheme", "", "DBQScheme settings, e.g. forward=smooth,thresholds=trained.")
    flags.DEFINE_float("distill", 0.0, "Weight of distillation from the float model, 0 to 1.")
    flags.DEFINE_integer("seed", 0, "Of initialisation, order of pictures and augmentation.")
    flags.DEFINE_enum("strategy", "none", distribution.STRATEGIES, "tf.distribute; multiworker reads TF_CONFIG.")
    flags.DEFINE_integer("patience", 0, "Epochs without a better test figure that end training; 0: all epochs.", 0)
    flags.DEFINE_bool("tensorboard", False, "Write logs for TensorBoard into the work folder.")
    flags.DEFINE_string("hparams", "", f"Any of {', '.join(task.defaults)} as name=value,...")

    def main(argv: list[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"expected flags only, got {argv[1:]}")
        logging.set_verbosity(logging.ERROR)  # the converter's advice is not for users of this program
        pipeline.run(
            task,
            FLAGS.data,
            Path(FLAGS.workdir),
            **{name: FLAGS[name].value for name in NAMES},
        )

    app.run(main)
