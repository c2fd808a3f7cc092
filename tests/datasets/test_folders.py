"""Photos in a folder per class, as a stream."""

import numpy as np
import pytest

from keras_dbq import datasets
from tests.datasets import photos
from tests.datasets.test_streams import read


@pytest.mark.parametrize("held_out", ["validation", "test", "val"])
def test_both_parts_with_their_classes(tmp_path, held_out):
    folder = photos.write(tmp_path, held_out)
    train, test = (datasets.stream(folder, split, size=6) for split in ("train", "test"))
    assert (train.count, test.count, train.classes, train.labelled) == (6, 4, 2, True)
    for stream, count in ((train, 3), (test, 2)):
        x, y = read(stream)
        np.testing.assert_array_equal(y, [0] * count + [1] * count)
        np.testing.assert_array_equal(x[:, 0, 0, 0] > 100, y == 1)


def test_order_follows_from_the_seed(tmp_path):
    stream = datasets.stream(photos.write(tmp_path, train=12, test=1), size=4)
    first, again, other = read(stream, [0, 1]), read(stream, [0, 1]), read(stream, [0, 2])
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0]) and sorted(first[1]) == sorted(other[1])
    np.testing.assert_array_equal(first[0][:, 0, 0, 0] > 100, first[1] == 1)


def test_sizes_and_channels_as_they_are_and_in_grey(tmp_path):
    folder = photos.write(tmp_path)
    shapes = {x.shape for x, _ in datasets.stream(folder).ordered(None).as_numpy_iterator()}
    assert shapes == {(10, 10, 3), (11, 12, 3), (12, 14, 3)}
    assert read(datasets.stream(folder, size=5, channels=1))[0].shape == (6, 5, 5, 1)


def test_nothing_is_read_before_it_is_needed(tmp_path):
    folder = photos.write(tmp_path)
    stream = datasets.stream(folder, size=6)
    (tmp_path / "train" / "dog" / "2.PNG").unlink()
    iterator = stream.ordered(None).take(2).as_numpy_iterator()
    assert len(list(iterator)) == 2


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="expected a folder train with a sub-folder per class, got none"):
        datasets.stream(str(tmp_path))
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match="expected a sub-folder per class, got none"):
        datasets.stream(str(tmp_path))
    (tmp_path / "train" / "cat").mkdir()
    with pytest.raises(ValueError, match="expected pictures .*, got none; check the layout"):
        datasets.stream(str(tmp_path))
    with pytest.raises(ValueError, match="expected a folder test or validation or val"):
        datasets.stream(str(tmp_path), "test")
    (tmp_path / "val" / "bird").mkdir(parents=True)
    (tmp_path / "val" / "bird" / "a.jpg").touch()
    with pytest.raises(ValueError, match="got the classes bird besides; check the layout"):
        datasets.stream(str(tmp_path), "test")
