"""Batches of the examples: crops, mirroring, order and full batches, all decided by seed and epoch."""

import numpy as np
import pytest

from examples.common import input_pipeline
from keras_dbq import datasets
from keras_dbq.compat import tf


def crops(pictures, seed, pad, flip):
    return input_pipeline.crop_and_flip(tf.constant(pictures), tf.constant(seed, tf.int64), pad, flip).numpy()


def test_crops_are_windows_of_the_padded_picture_and_some_are_mirrored():
    picture = np.arange(1, 13, dtype=np.uint8).reshape(1, 3, 4, 1)
    padded = np.pad(picture[0], ((2, 2), (2, 2), (0, 0)))
    windows = {padded[i : i + 3, j : j + 4].tobytes() for i in range(5) for j in range(5)}
    mirrored = {padded[i : i + 3, j : j + 4][:, ::-1].tobytes() for i in range(5) for j in range(5)}
    many = np.repeat(picture, 300, 0)
    seen = {crop.tobytes() for crop in crops(many, [0, 1], 2, True)}
    assert seen == windows | mirrored
    assert {crop.tobytes() for crop in crops(many, [0, 1], 2, False)} == windows
    share = np.mean([crop.tobytes() in mirrored for crop in crops(np.repeat(picture, 2000, 0), [0, 2], 1, True)])
    assert 0.45 < share < 0.55  # 4.5 standard errors; no window is its own mirror image


def batches(first=0, epochs=3, seed=0, count=10):
    """Batches of 4 from `count` pictures whose first pixel is their number."""
    x = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), np.uint8)
    pictures = datasets.from_arrays(x, np.arange(count), classes=count)
    augment = lambda x, key: input_pipeline.crop_and_flip(x, key, 1, True)  # noqa: E731
    steps = input_pipeline.Steps(augment, lambda x: tf.cast(x, tf.float32))
    data = input_pipeline.training_batches(pictures, 4, seed, range(first, epochs), steps)
    return [(x.numpy(), y.numpy()) for x, y in data]


def equal(a, b):
    return len(a) == len(b) and all(
        np.array_equal(x, y) for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True)
    )


def test_epochs_are_full_batches_each_picture_at_most_once_in_another_order():
    data = batches()
    assert [x.shape for x, _ in data] == [(4, 4, 4, 3)] * 6
    epochs = [np.concatenate([y for _, y in data[i : i + 2]]) for i in (0, 2, 4)]
    for labels in epochs:
        assert len(set(labels)) == 8
    assert not np.array_equal(epochs[0], epochs[1]) and not np.array_equal(epochs[1], epochs[2])


def test_batches_follow_from_seed_and_epoch():
    whole = batches()
    assert equal(whole, batches())
    assert equal(whole[4:], batches(first=2))  # a run that begins with the third epoch
    assert not equal(whole, batches(seed=1))


def test_augmentation_differs_from_batch_to_batch_and_from_epoch_to_epoch():
    picture = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    same = datasets.from_arrays(np.repeat(picture, 8, 0), np.zeros(8, np.int64), classes=1)
    augment = lambda x, key: input_pipeline.crop_and_flip(x, key, 4, True)  # noqa: E731
    steps = input_pipeline.Steps(augment, lambda x: x)
    data = [x.numpy() for x, _ in input_pipeline.training_batches(same, 4, 0, range(2), steps)]
    assert len({x.tobytes() for x in data}) == 4


@pytest.mark.parametrize("count", [5, 8])
def test_the_test_set_is_whole_and_in_order(count):
    x = np.random.default_rng(0).integers(0, 256, (count, 2, 2, 1), np.uint8)
    pictures = datasets.from_arrays(x, np.arange(count), classes=count)
    data = input_pipeline.test_batches(pictures, 4, lambda x: tf.cast(x, tf.float32))
    np.testing.assert_array_equal(np.concatenate([a for a, _ in data]), x)
    np.testing.assert_array_equal(np.concatenate([b for _, b in data]), np.arange(count))
    np.testing.assert_array_equal(input_pipeline.first_pictures(pictures, 3, lambda x: x), x[:3])
