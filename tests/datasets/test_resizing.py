"""Pictures in another size and other colours."""

import numpy as np
import pytest

from keras_dbq import datasets
from keras_dbq.compat import tf
from keras_dbq.datasets.resizing import fitted


@pytest.mark.parametrize("size", [3, 8, 13])
def test_resize_equals_the_formula(size):
    """Against a direct evaluation, pixel by pixel, in float64."""
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (2, 6, 9, 1), np.uint8)
    result = datasets.resize(picture, size)
    for i in range(size):
        for j in range(size):
            y = min(max((i + 0.5) * 6 / size - 0.5, 0), 5)
            x = min(max((j + 0.5) * 9 / size - 0.5, 0), 8)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, 5), min(left + 1, 8)
            p = picture[:, :, :, 0].astype(float)
            upper = p[:, top, left] + (p[:, top, right] - p[:, top, left]) * (x - left)
            lower = p[:, bottom, left] + (p[:, bottom, right] - p[:, bottom, left]) * (x - left)
            assert np.all(np.abs(result[:, i, j, 0] - (upper + (lower - upper) * (y - top))) <= 0.5 + 1e-4)


def test_resize_to_the_same_size_gives_the_array_itself():
    picture = np.zeros((1, 4, 4, 3), np.uint8)
    assert datasets.resize(picture, 4) is picture and datasets.resize(picture, None) is picture


def test_photos_are_antialiased_and_keep_their_mean():
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    small = fitted(tf.constant(picture), 4, 3).numpy()
    assert small.shape == (4, 4, 3) and small.dtype == np.uint8
    # Every pixel is a mean over hundreds of pixels: noise of 74 shrinks to about 3; four pixels alone would leave 37.
    assert small.std() < 8 and abs(small.mean() - picture.mean()) < 3


def test_colours_of_photos():
    grey = tf.constant(np.arange(16, dtype=np.uint8).reshape(4, 4, 1))
    np.testing.assert_array_equal(fitted(grey, None, 3)[..., 1], grey[..., 0])
    colour = tf.constant(np.full((4, 4, 3), [10, 20, 60], np.uint8))
    assert (fitted(colour, None, 1).numpy() == 30).all()
    assert fitted(colour, None, None) is colour
