"""Pictures from a folder or an .npz, in the size that a network takes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"}


class Pictures(NamedTuple):
    """x: uint8 [N, H, W, C].  y: int64 [N], class numbers, or None where there are no labels."""

    x: np.ndarray
    y: np.ndarray | None


def load(path: str, height: int, width: int, channels: int, part: str = "train") -> Pictures:
    """Pictures of any size, cropped to their centre and resized (bilinear, antialiased) to height x width.

    Args:
      path: a folder of picture files, at any depth (where all lie in sub-folders, each sub-folder of the first level
        is a class, in sorted order), or an .npz: x, or x_train / x_test, uint8 [N, H, W] or [N, H, W, C]; y, or y_train
        / y_test, integer labels (-1: none; then the picture counts as unlabelled).
      part: "train" or "test": which arrays of an .npz that has both.

    Raises:
      ValueError: nothing there, no pictures, arrays of other shapes or types.
    """
    source = Path(path)
    if source.is_dir():
        return _folder(source, height, width, channels)
    if not source.is_file() or source.suffix != ".npz":
        raise ValueError(f"{path}: expected a folder of pictures or an .npz file, got neither; check the path")
    return _npz(source, height, width, channels, part)


def _folder(folder: Path, height: int, width: int, channels: int) -> Pictures:
    from PIL import Image

    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in ENDINGS)
    if not files:
        raise ValueError(f"{folder}: expected pictures ({', '.join(sorted(ENDINGS))}), got none; check the path")
    x = np.stack([_resized(Image.open(file), height, width, channels) for file in files])
    parts = [file.relative_to(folder).parts for file in files]
    if any(len(p) == 1 for p in parts):
        return Pictures(x, None)
    classes = sorted({p[0] for p in parts})
    return (
        Pictures(x, np.array([classes.index(p[0]) for p in parts], np.int64)) if len(classes) > 1 else Pictures(x, None)
    )


def _npz(path: Path, height: int, width: int, channels: int, part: str) -> Pictures:
    from PIL import Image

    with np.load(path) as stored:
        name = next((n for n in (f"x_{part}", "x", "x_train", "x_test") if n in stored.files), None)
        if name is None:
            raise ValueError(f"{path}: expected an array x, x_train or x_test, got {', '.join(stored.files)}")
        x = stored[name]
        labels = name.replace("x", "y", 1)
        y = stored[labels].reshape(-1).astype(np.int64) if labels in stored.files else None
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or x.dtype != np.uint8 or x.shape[3] not in (1, 3) or not len(x):
        raise ValueError(f"{path}: {name}: expected uint8 pictures [N, H, W, 1 or 3], got {x.dtype} {x.shape}")
    if y is not None and len(y) != len(x):
        raise ValueError(f"{path}: {labels}: expected {len(x)} labels, got {len(y)}")
    if x.shape[1:] != (height, width, channels):
        x = np.stack(
            [_resized(Image.fromarray(p[..., 0] if p.shape[2] == 1 else p), height, width, channels) for p in x]
        )
    return Pictures(x, None if y is None or (y < 0).any() else y)


def _resized(picture: object, height: int, width: int, channels: int) -> np.ndarray:
    """The largest centred rectangle of the wanted shape, resized; uint8 [height, width, channels]."""
    from PIL import Image

    picture = picture.convert("RGB" if channels == 3 else "L")  # type: ignore[attr-defined]
    scale = min(picture.width / width, picture.height / height)
    across, down = width * scale, height * scale
    left, top = (picture.width - across) / 2, (picture.height - down) / 2
    box = (left, top, left + across, top + down)
    values = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=box))
    return values.reshape(height, width, channels)
