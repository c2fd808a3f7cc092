"""The flags that say which pictures are read, and how they are scaled."""

from __future__ import annotations

import argparse

from keras_dbq.command.ranges import RANGES


def add(parser: argparse.ArgumentParser, count: int) -> None:
    """Adds --data, --pictures, --range and --seed."""
    parser.add_argument(
        "--data",
        required=True,
        metavar="PHOTOS",
        help="a folder with photos (at any depth), an .npz or .npy file, or a name of tensorflow-datasets",
    )
    parser.add_argument("--pictures", type=int, default=count, help=f"how many are read (default {count})")
    parser.add_argument(
        "--range",
        choices=list(RANGES),
        help="how the network takes pictures: as they are, divided, or as keras.applications' modes torch and caffe; "
        "default: found out from its first layers, and asked for where unclear",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice of pictures, and of training (default 0)")
