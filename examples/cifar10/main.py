"""ResNet-20 on CIFAR-10: float training, DBQ training, export, and the accuracy of the exported file.

Usage: python examples/cifar10/main.py --help
"""

import os
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Behind everything else: where keras_dbq is installed, that one is used and not the source tree.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from examples.cifar10 import train
from examples.common import command

if __name__ == "__main__":
    command.run(train.TASK, "A .keras, .h5 or ResNet-20 .npz file")
