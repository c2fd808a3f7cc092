"""Copies are windows of the picture and its mirror image at the edges; the seed decides."""

import numpy as np

from keras_dbq.training.augmentation import shifted

X = np.arange(6 * 16 * 24 * 2, dtype=np.float32).reshape(6, 16, 24, 2)


def windows(picture, mirror):
    padded = np.pad(picture, ((2, 2), (3, 3), (0, 0)), mode="symmetric")
    for i in range(5):
        for j in range(7):
            window = padded[i : i + 16, j : j + 24]
            yield window
            if mirror:
                yield window[:, ::-1]


def test_each_copy_is_a_window():
    for mirror in (False, True):
        for picture, copy in zip(X, shifted(X, mirror, [0, 1]), strict=True):
            assert any(np.array_equal(copy, window) for window in windows(picture, mirror))


def test_the_seed_decides_and_some_are_mirrored():
    assert np.array_equal(shifted(X, True, [0, 1]), shifted(X, True, [0, 1]))
    assert not np.array_equal(shifted(X, True, [0, 1]), shifted(X, True, [0, 2]))
    falling = (
        shifted(np.repeat(X[:1], 50, 0), True, [3])[:, 8, 12, 0]
        > shifted(np.repeat(X[:1], 50, 0), True, [3])[:, 8, 13, 0]
    )
    assert 10 < falling.sum() < 40


def test_small_pictures_stay_where_they_are():
    x = np.random.default_rng(0).normal(size=(3, 4, 4, 1)).astype(np.float32)
    assert np.array_equal(shifted(x, False, [0]), x)
