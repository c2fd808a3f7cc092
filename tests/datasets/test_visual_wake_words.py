"""The tfds builder of Visual Wake Words, on made photos: labels, splits, and tfds' own test case."""

import tempfile
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from keras_dbq import datasets
from keras_dbq.datasets import visual_wake_words
from tests.datasets import coco


class VisualWakeWordsTest(tfds.testing.DatasetBuilderTestCase):
    """tfds' checks: both ways of getting the photos give these splits, and what is read is what was written."""

    DATASET_CLASS = visual_wake_words.VisualWakeWords
    BUILDER_CONFIG_NAMES_TO_TEST = ["coco2014", "manual2017"]
    SPLITS = {"train": 5, "validation": 3}
    DL_EXTRACT_RESULT = {"annotations": "", "train": "", "val": ""}
    SKIP_CHECKSUMS = True

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        root = Path(cls.folder.name) / "dummy_data"
        for year in (2014, 2017):
            coco.write(root / str(year), year)
        coco_root = root / "all"
        coco_root.mkdir()
        for year in (2014, 2017):
            for entry in (root / str(year)).rglob("*.*"):
                target = coco_root / entry.relative_to(root / str(year))
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(entry.read_bytes())
        cls.EXAMPLE_DIR = str(coco_root)
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.folder.cleanup()


@pytest.fixture
def prepared(tmp_path):
    """data_dir -> the builder for made photos in its manual folder, prepared; {split: {id: label}}."""

    def prepare(minival=None):
        manual = tmp_path / "downloads" / "manual"
        coco.write(manual, 2014)
        if minival is not None:
            (manual / visual_wake_words.MINIVAL).write_text("\n".join(map(str, minival)))
        builder = visual_wake_words.VisualWakeWords(config="manual2014", data_dir=tmp_path)
        builder.download_and_prepare()
        parts = {}
        for split in ("train", "validation"):
            rows = tfds.as_numpy(builder.as_dataset(split=split))
            parts[split] = {int(row["image/id"]): int(row["label"]) for row in rows}
        return parts

    return prepare


def expected(ids):
    return {i: int(i in coco.WITH_PERSON) for i in ids}


def test_labels_and_cocos_own_split(prepared):
    assert prepared() == {"train": expected(coco.PHOTOS["train"]), "validation": expected(coco.PHOTOS["val"])}


def test_a_list_of_ids_makes_the_split(prepared):
    assert prepared([22, 11]) == {"train": expected([12, 13, 14, 15, 21, 23]), "validation": expected([11, 22])}


def test_a_folder_without_coco(tmp_path):
    (tmp_path / "downloads" / "manual" / "other").mkdir(parents=True)
    builder = visual_wake_words.VisualWakeWords(config="manual2014", data_dir=tmp_path)
    with pytest.raises(ValueError, match="annotations with COCO's instances_.*json, got no such folder; unpack COCO"):
        builder.download_and_prepare()


def test_it_is_found_by_its_name(tmp_path, monkeypatch):
    coco.write(tmp_path / "downloads" / "manual", 2017)
    builder = tfds.builder
    monkeypatch.setattr(tfds, "builder", lambda name: builder(name, data_dir=tmp_path))
    train, test = (
        datasets.stream("visual_wake_words/manual2017", part, size=8, channels=3) for part in ("train", "test")
    )
    assert (train.count, test.count, train.classes) == (5, 3, 2)
    pictures = list(test.ordered(None))
    assert pictures[0][0].shape == (8, 8, 3) and sorted(int(y) for _, y in pictures) == [0, 0, 1]


def test_without_a_manual_folder_one_line_says_what_to_do(tmp_path, monkeypatch):
    builder = tfds.builder
    monkeypatch.setattr(tfds, "builder", lambda name: builder(name, data_dir=tmp_path))
    with pytest.raises(ValueError, match="visual_wake_words/manual2014': Manual directory .* does not exist") as error:
        datasets.stream("visual_wake_words/manual2014")
    assert "\n" not in str(error.value) and "the manual folder holds COCO" in str(error.value)
