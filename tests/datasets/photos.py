"""Made photos in a folder per class, for the tests of folders as data."""

from pathlib import Path

import numpy as np

from keras_dbq.compat import tf

CLASSES = ("cat", "dog")


def write(root: Path, held_out: str = "validation", train: int = 3, test: int = 2, side: int = 10) -> str:
    """Photos of several sizes below train/CLASS and the held out part; a cat's are dark. Returns the folder."""
    for part, count in (("train", train), (held_out, test)):
        for label, name in enumerate(CLASSES):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.full((side + i, side + 2 * i, 3), 40 + 150 * label + i, np.uint8)
                encode, ending = (tf.io.encode_jpeg, "jpeg") if i % 2 else (tf.io.encode_png, "PNG")
                (folder / f"{i}.{ending}").write_bytes(encode(pixels).numpy())
    return str(root)
