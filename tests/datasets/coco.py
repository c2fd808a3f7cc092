"""A handful of made photos with annotations as COCO has them, for the tests of Visual Wake Words."""

import json
from pathlib import Path

import numpy as np

from keras_dbq.compat import tf

WIDTH, HEIGHT = 40, 20  # 800 pixels: half a percent is a box of 4
# id -> boxes (category, width, height); category 1 is the person
PHOTOS = {
    "train": {
        11: [(1, 2.0, 2.0)],  # exactly half a percent
        12: [(1, 2.0, 1.99)],  # less
        13: [(2, 30.0, 15.0)],  # a large cat
        14: [],
        15: [(1, 1.0, 1.0), (2, 9.0, 9.0), (1, 10.0, 10.0)],
    },
    "val": {21: [(1, 20.0, 20.0)], 22: [(1, 1.0, 3.0)], 23: []},
}
WITH_PERSON = {11, 15, 21}


def write(root: Path, year: int) -> None:
    """Writes annotations/ and the photos of both parts."""
    (root / "annotations").mkdir(parents=True)
    for part, photos in PHOTOS.items():
        folder = root / f"{part}{year}"
        folder.mkdir()
        images, boxes = [], []
        for number, content in photos.items():
            name = f"{number:012d}.jpg"
            pixels = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
            (folder / name).write_bytes(tf.io.encode_jpeg(pixels).numpy())
            images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
            for category, width, height in content:
                boxes.append({"image_id": number, "category_id": category, "bbox": [0.0, 0.0, width, height]})
        names = [{"id": 1, "name": "person"}, {"id": 2, "name": "cat"}]
        stored = {"images": images, "annotations": boxes, "categories": names}
        (root / "annotations" / f"instances_{part}{year}.json").write_text(json.dumps(stored))
