"""ImageNet from tfds or a folder per class: float training, DBQ training, export, accuracy of the exported file.

Usage: python examples/imagenet/main.py --help
"""

import os
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Behind everything else: where keras_dbq is installed, that one is used and not the source tree.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from examples.common import command
from examples.imagenet import train

if __name__ == "__main__":
    command.run(train.TASK, "A .keras or .h5 file")
