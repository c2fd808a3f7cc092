"""Pictures in folders as ImageNet's are laid out: train/CLASS/*.jpg, and validation/ or test/ beside train/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keras_dbq.compat import tf
from keras_dbq.datasets.resizing import fitted
from keras_dbq.datasets.stream import Stream

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
PARTS = {"train": ("train",), "test": ("test", "validation", "val")}


def is_folder(spec: str) -> bool:
    """Whether `spec` names a folder."""
    return Path(spec).is_dir()


def from_folder(root: Path, split: str, size: int | None, channels: int | None) -> Stream:
    """The pictures of one part; files are read while it is iterated.

    Class numbers follow the sorted names of the folders below train/. With a seed all files are in random order.

    Raises ValueError: no such part, no pictures, or a class that train/ does not have.
    """
    classes = _class_names(_part(root, "train"))
    folder = _part(root, split)
    files = sorted(f for f in folder.glob("*/*") if f.suffix.lower() in ENDINGS)
    unknown = sorted({f.parent.name for f in files} - set(classes))
    if not files or unknown:
        raise ValueError(
            f"{folder}: expected pictures ({', '.join(ENDINGS)}) in a folder per class of train/, got "
            f"{'the classes ' + ', '.join(unknown) + ' besides' if unknown else 'none'}; check the layout"
        )
    paths, labels = [str(f) for f in files], [classes.index(f.parent.name) for f in files]
    return Stream(_ordered(paths, labels, size, channels), len(files), len(classes))


def _part(root: Path, split: str) -> Path:
    for name in PARTS[split]:
        if (root / name).is_dir():
            return root / name
    raise ValueError(f"{root}: expected a folder {' or '.join(PARTS[split])} with a sub-folder per class, got none")


def _class_names(folder: Path) -> list[str]:
    names = sorted(f.name for f in folder.iterdir() if f.is_dir())
    if not names:
        raise ValueError(f"{folder}: expected a sub-folder per class, got none; move the pictures of a class into one")
    return names


def _ordered(paths: list[str], labels: list[int], size: int | None, channels: int | None) -> Any:
    def picture(i: Any) -> tuple[Any, Any]:
        decoded = tf.io.decode_image(tf.io.read_file(tf.gather(all_paths, i)), channels or 3, expand_animations=False)
        decoded.set_shape([None, None, channels or 3])
        return fitted(decoded, size, channels), tf.gather(all_labels, i)

    all_paths, all_labels = tf.constant(paths), tf.constant(labels, tf.int64)

    def ordered(seed: Any = None) -> Any:
        indices = tf.range(len(paths), dtype=tf.int64)
        if seed is not None:
            indices = tf.random.experimental.stateless_shuffle(indices, seed)
        return tf.data.Dataset.from_tensor_slices(indices).map(picture, num_parallel_calls=tf.data.AUTOTUNE)

    return ordered
