"""Turns this project's research data into plain .npz files that the examples take as --data.

Usage: python examples/prepare_data.py DATA_DIR OUT_DIR [FILE ...]

DATA_DIR holds the coded sets and their decoder, load_data.py (see its README.md for sources and terms of use). Written:

  cifar10.npz   all 50,000 + 10,000 CIFAR-10 pictures, 32 x 32 (about 180 MB, 15 s)
  vww.npz       96 x 96; for distillation and for measuring Visual Wake Words (about 310 MB, 30 s):
    x_test, y_test    COCO photos with a usable label (0 no person, 1 person), less the part given to training
    x_train, y_train  no labels (-1): the 2,000 ImageNet pictures, once whole and CROPS times as a random square crop,
                      and the COCO photos that do not measure: the unusable ones and TRAIN_PHOTOS of the usable ones
  imagenet.npz  x_train: 1,000 training pictures 224 x 224, y_train -1; x_test, y_test: validation pictures 1..1000
  mobilenet_v2.keras, mobilenet_v1_025.keras
                float networks of published weights, for 224 x 224 pictures in [-1, 1]; 1,000 logits (the background
                class of MobileNetV1's 1,001 is left out)
  mobilenet_v1_025_128.keras, mobilenet_v1_025_160.keras
                the same weights for 128 x 128 and 160 x 160 pictures
"""

from __future__ import annotations

import functools
import importlib.util
import io
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

from keras_dbq._files import write_file

SIZE = 96  # pixels, Visual Wake Words
CROPS = 4  # of each ImageNet picture
TRAIN_PHOTOS = 200  # of the photos with a usable label, chosen with SEED
SEED = 0


def _loader(folder: Path) -> ModuleType:
    path = folder / "load_data.py"
    spec = importlib.util.spec_from_file_location("load_data", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise SystemExit(f"DATA_DIR: expected {path}, found none; give the folder that holds the coded data sets")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _square(picture: np.ndarray, left: int, top: int, length: int) -> np.ndarray:
    """A square of a uint8 [H, W, 3] picture, resized to SIZE x SIZE with Pillow's antialiasing."""
    from PIL import Image

    box = (left, top, left + length, top + length)
    return np.asarray(Image.fromarray(picture).resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box))


def _unlabelled(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every 224 x 224 picture whole, then CROPS random squares of 96 to 224 pixels of it; uint8 [N, 96, 96, 3]."""
    full = pictures.shape[1]
    result = [_square(picture, 0, 0, full) for picture in pictures]
    for picture in pictures:
        for _ in range(CROPS):
            length = int(rng.integers(SIZE, full + 1))
            left, top = (int(v) for v in rng.integers(0, full - length + 1, 2))
            result.append(_square(picture, left, top, length))
    return np.stack(result)


def split_photos(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the photos for training (without labels) and of those that measure. label: -1, 0 or 1."""
    rng = np.random.default_rng(SEED)
    usable = rng.permutation(np.flatnonzero(label >= 0))
    unusable = np.flatnonzero(label < 0)
    return np.sort(np.concatenate([unusable, usable[:TRAIN_PHOTOS]])), np.sort(usable[TRAIN_PHOTOS:])


def _save(file: Path, **arrays: np.ndarray) -> None:
    """An .npz that is there completely or not at all."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    write_file(file, stream.getvalue())


def write_cifar10(load_data: ModuleType, source: Path, target: Path) -> None:
    (x_train, y_train), (x_test, y_test) = load_data.cifar10(source / "cifar10.npz", verify=True)
    _save(target / "cifar10.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


def write_vww(load_data: ModuleType, source: Path, target: Path) -> None:
    rng = np.random.default_rng(SEED)
    photos, fields = load_data.jpeg_set(source / "vww_coco_96.npz")
    train, test = split_photos(fields["label_mlperf"])
    parts = [photos[train]]
    for name in ("imagenet_sample1000_224.npz", "imagenet_val_first1000_224.npz"):
        parts.append(_unlabelled(load_data.jpeg_set(source / name)[0], rng))
    x_train = np.concatenate(parts)
    _save(
        target / "vww.npz",
        x_train=x_train,
        y_train=np.full(len(x_train), -1),
        x_test=photos[test],
        y_test=fields["label_mlperf"][test],
    )


def write_imagenet(load_data: ModuleType, source: Path, target: Path) -> None:
    x_train = load_data.jpeg_set(source / "imagenet_sample1000_224.npz")[0]
    x_test, fields = load_data.jpeg_set(source / "imagenet_val_first1000_224.npz")
    y_train = np.full(len(x_train), -1)
    _save(target / "imagenet.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=fields["label"])


def write_mobilenet_v2(load_data: ModuleType, source: Path, target: Path) -> None:
    from keras_dbq.models import pretrained

    file = source / "weights" / "mobilenetv2_1.0_224_keras_int8weights.tflite"
    pretrained.mobilenet_v2_from_tflite(file).save(target / "mobilenet_v2.keras")


def write_mobilenet_v1(load_data: ModuleType, source: Path, target: Path, size: int = 224) -> None:
    from keras_dbq.models import mobilenet_v1, pretrained

    full = pretrained.mobilenet_v1_from_npz(source / "weights" / "mobilenet_v1_0.25_224_imagenet.npz")
    model = mobilenet_v1((size, size, 3), classes=1000, alpha=0.25)
    for old, new in zip(full.layers, model.layers, strict=True):
        weights = old.get_weights()
        new.set_weights([w[..., 1:] for w in weights] if old is full.layers[-1] else weights)
    model.save(target / ("mobilenet_v1_025.keras" if size == 224 else f"mobilenet_v1_025_{size}.keras"))


WRITERS = {
    "cifar10.npz": write_cifar10,
    "vww.npz": write_vww,
    "imagenet.npz": write_imagenet,
    "mobilenet_v2.keras": write_mobilenet_v2,
    "mobilenet_v1_025.keras": write_mobilenet_v1,
    "mobilenet_v1_025_128.keras": functools.partial(write_mobilenet_v1, size=128),
    "mobilenet_v1_025_160.keras": functools.partial(write_mobilenet_v1, size=160),
}


def main(arguments: list[str]) -> None:
    if len(arguments) < 2 or set(arguments[2:]) - set(WRITERS):
        raise SystemExit(__doc__)
    source, target = Path(arguments[0]), Path(arguments[1])
    load_data = _loader(source)
    target.mkdir(parents=True, exist_ok=True)
    for name in arguments[2:] or WRITERS:
        WRITERS[name](load_data, source, target)
        print(f"{target / name}: {(target / name).stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
