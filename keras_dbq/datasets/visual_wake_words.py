"""tensorflow-datasets builder of Visual Wake Words: is there a person in the photo?

source: Chowdhery et al., arXiv 1906.05721: a photo of COCO has label 1 where a person covers at least 0.5 % of its
area, else 0. choice: the area is that of the person's box. Importing this module makes the set known to tfds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

SHARE = 0.005
MINIVAL = "mscoco_minival_ids.txt"
PARTS = ("train", "val")
_URL = "http://images.cocodataset.org"


class Photo(NamedTuple):
    """One photo of COCO. part: "train" or "val", where COCO has it.  label: 1 with a person, else 0."""

    id: int
    file: Path
    part: str
    label: int


@dataclass
class Config(tfds.core.BuilderConfig):
    """A year's version of COCO. manual: the user has it in tfds' folder for manual downloads; else tfds fetches it."""

    year: int = 2014
    manual: bool = False


class VisualWakeWords(tfds.core.GeneratorBasedBuilder):
    """Photos of COCO with the label 1 where a person is to be seen, else 0.

    Splits: train and validation. Where the manual folder has MINIVAL (an image id a line), as published with
    TensorFlow's object detection models, the photos it lists are the validation split, else COCO's own val part is.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        Config(name="coco2014", year=2014, description="COCO 2014, downloaded"),
        Config(name="coco2017", year=2017, description="COCO 2017, downloaded"),
        Config(name="manual2014", year=2014, manual=True, description="COCO 2014 from the manual folder"),
        Config(name="manual2017", year=2017, manual=True, description="COCO 2017 from the manual folder"),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "For manual2014 and manual2017 the manual folder holds COCO as it is unpacked: annotations/instances_trainYEAR"
        f".json, annotations/instances_valYEAR.json, trainYEAR/, valYEAR/, and {MINIVAL} for the usual minival split."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=["no_person", "person"]),
            "image/id": tfds.features.Scalar(np.int64),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://arxiv.org/abs/1906.05721",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        year, manual = self.builder_config.year, self.builder_config.manual
        folders = _manual(Path(dl_manager.manual_dir)) if manual else _downloaded(dl_manager, year)
        photos = [photo for part in PARTS for photo in read_part(folders, part, year)]
        held_out = _held_out(photos, folders["annotations"] / MINIVAL)
        return {
            "train": self._generate_examples([p for p in photos if p.id not in held_out]),
            "validation": self._generate_examples([p for p in photos if p.id in held_out]),
        }

    def _generate_examples(self, photos: list[Photo]) -> Iterator[tuple[int, dict[str, Any]]]:
        for photo in photos:
            yield photo.id, {"image": photo.file, "label": photo.label, "image/id": photo.id}


def _manual(folder: Path) -> dict[str, Path]:
    """Where annotations and photos lie: all in one folder.

    Raises ValueError where they do not.
    """
    if not (folder / "annotations").is_dir():
        raise ValueError(
            f"visual_wake_words: expected {folder}/annotations with COCO's instances_*.json, got no such folder; "
            "unpack COCO there, or take the configuration coco2014 or coco2017, which are downloaded"
        )
    return dict.fromkeys(("annotations", *PARTS), folder)


def _downloaded(dl_manager: Any, year: int) -> dict[str, Path]:
    urls = {part: f"{_URL}/zips/{part}{year}.zip" for part in PARTS}
    urls["annotations"] = f"{_URL}/annotations/annotations_trainval{year}.zip"
    return {name: Path(path) for name, path in dl_manager.download_and_extract(urls).items()}


def _held_out(photos: list[Photo], minival: Path) -> set[int]:
    """Ids of the validation split."""
    if minival.is_file():
        return {int(line) for line in minival.read_text().split()}
    return {photo.id for photo in photos if photo.part == "val"}


def read_part(folders: dict[str, Path], part: str, year: int) -> list[Photo]:
    """The photos of one part of COCO with their labels, in the order of the annotations' file."""
    file = folders["annotations"] / "annotations" / f"instances_{part}{year}.json"
    stored = json.loads(file.read_text())
    shown = with_person(stored)
    folder = folders[part] / f"{part}{year}"
    return [Photo(i["id"], folder / i["file_name"], part, int(i["id"] in shown)) for i in stored["images"]]


def with_person(stored: dict[str, Any]) -> set[int]:
    """Ids of the images with a person's box of at least SHARE of the area; `stored` as in COCO's instances_*.json."""
    person = {c["id"] for c in stored["categories"] if c["name"] == "person"}
    area = {image["id"]: image["width"] * image["height"] for image in stored["images"]}
    found = set()
    for box in stored["annotations"]:
        _, _, width, height = box["bbox"]
        if box["category_id"] in person and width * height >= SHARE * area[box["image_id"]]:
            found.add(box["image_id"])
    return found
