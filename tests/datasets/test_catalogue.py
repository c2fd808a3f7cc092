"""Sets of tensorflow-datasets by name, with tfds' own mocking and with a builder written to a folder."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_dbq import datasets
from keras_dbq.compat import keras, tf
from keras_dbq.datasets import catalogue
from tests.datasets.test_streams import read


class KerasDbqMade(tfds.core.GeneratorBasedBuilder):
    """24 pictures of three sizes; the test part has no labels."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=3)}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
        )

    def _split_generators(self, dl_manager):
        sizes = {"train": 24, "validation": 6, "test": 4}
        return {name: self._generate_examples(count, name != "test") for name, count in sizes.items()}

    def _generate_examples(self, count, labels):
        for i in range(count):
            side = 5 + i % 3
            yield i, {"image": np.full((side, side, 3), 10 * i, np.uint8), "label": i % 3 if labels else -1}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """The set above, found by its name in a folder of its own."""
    builder = tfds.builder
    monkeypatch.setattr(tfds, "builder", lambda name: builder(name, data_dir=tmp_path))
    return "keras_dbq_made"


def test_parts_sizes_and_classes(made):
    train, test = (datasets.stream(made, split, size=4, channels=1) for split in ("train", "test"))
    assert (train.count, test.count, train.classes) == (24, 6, 3)  # validation: the test part has no labels
    x, y = read(train)
    assert x.shape == (24, 4, 4, 1) and x.dtype == np.uint8
    np.testing.assert_array_equal((x[:, 0, 0, 0] // 10) % 3, y)
    assert {p.shape for p, _ in datasets.stream(made).ordered(None).as_numpy_iterator()} == {
        (s, s, 3) for s in (5, 6, 7)
    }


def test_order_follows_from_the_seed(made):
    stream = datasets.stream(made, size=4)
    first, again, other = read(stream, [0, 1]), read(stream, [0, 1]), read(stream, [0, 2])
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0]) and sorted(first[0].ravel()) == sorted(other[0].ravel())


@pytest.mark.parametrize("global_seed", [0, 1])
def test_order_inside_of_a_pipeline_over_epochs(made, global_seed):
    """The global seed changes nothing; 0 was refused by TensorFlow beside a seed that is a tensor."""
    keras.utils.set_random_seed(1 - global_seed)
    alone = read(datasets.stream(made, size=4), [7, 0])[1]
    keras.utils.set_random_seed(global_seed)
    stream = datasets.stream(made, size=4)
    epochs = tf.data.Dataset.range(2).flat_map(
        lambda epoch: stream.ordered(tf.stack([tf.constant(7, tf.int64), epoch]))
    )
    labels = [int(y) for _, y in epochs]
    assert labels == [*alone, *read(stream, [7, 1])[1]]


def test_load_collects_both_parts(made):
    images = datasets.load(made, size=4, channels=3)
    assert images.x_train.shape == (24, 4, 4, 3) and images.x_test.shape == (6, 4, 4, 3)
    assert images.classes == 3 and images.y_train.dtype == np.int64
    with pytest.raises(ValueError, match="pictures differ in size; give size"):
        datasets.load(made)


def test_errors(made):
    with pytest.raises(ValueError, match="got 'no_such_set'; tfds does not know it"):
        datasets.stream("no_such_set")
    with tfds.testing.mock_data(num_examples=2), pytest.raises(ValueError, match="pictures with a class number each"):
        datasets.stream("glue/cola")


def test_a_set_without_a_part_that_measures():
    class Info:
        splits = {"train": None, "unsupervised": None}

    class Builder:
        info = Info()

    with pytest.raises(ValueError, match="expected the splits train and test or validation with labels, got train, un"):
        catalogue._stored_split("x", Builder(), "test")
