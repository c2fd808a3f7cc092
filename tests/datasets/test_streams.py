"""Picture sets as streams: the same pictures as `load` gives, in an order that follows from the seed."""

import numpy as np
import pytest

from keras_dbq import datasets
from keras_dbq.compat import tf


def read(stream, seed=None):
    pairs = list(stream.ordered(None if seed is None else tf.constant(seed, tf.int64)).as_numpy_iterator())
    return np.stack([x for x, _ in pairs]), np.array([y for _, y in pairs])


def test_arrays_as_streams():
    images = datasets.load("digits", size=12, channels=3)
    for split, x, y in (("train", images.x_train, images.y_train), ("test", images.x_test, images.y_test)):
        stream = datasets.stream("digits", split, size=12, channels=3)
        assert (stream.count, stream.classes, stream.labelled) == (len(x), 10, True)
        pictures, labels = read(stream)
        np.testing.assert_array_equal(pictures, x)
        np.testing.assert_array_equal(labels, y)


def test_order_follows_from_the_seed():
    x = np.arange(30, dtype=np.uint8).reshape(30, 1, 1, 1)
    stream = datasets.from_arrays(x, np.arange(30), classes=30)
    first, again, other = read(stream, [0, 1]), read(stream, [0, 1]), read(stream, [0, 2])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1]) and not np.array_equal(first[1], np.arange(30))
    assert sorted(first[1]) == list(range(30))
    np.testing.assert_array_equal(first[0].ravel(), first[1])  # pictures keep their labels


def test_pictures_without_labels_are_known():
    x = np.zeros((3, 1, 1, 1), np.uint8)
    assert not datasets.from_arrays(x, np.array([0, -1, 1]), classes=2).labelled


def test_errors_of_arguments():
    with pytest.raises(ValueError, match="split: expected 'train' or 'test', got 'validation'"):
        datasets.stream("digits", "validation")
    with pytest.raises(ValueError, match="channels: expected 1, 3 or None, got 2"):
        datasets.stream("digits", channels=2)
    with pytest.raises(ValueError, match="size: expected a positive number of pixels"):
        datasets.stream("digits", size=-1)
