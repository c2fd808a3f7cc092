"""The usual ranges of pictures."""

import numpy as np
import pytest

from keras_dbq.command.ranges import RANGES, scaled
from keras_dbq.compat import keras

PICTURES = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 3)).astype(np.uint8)


@pytest.mark.parametrize(("name", "mode"), [("-1..1", "tf"), ("torch", "torch"), ("caffe", "caffe")])
def test_the_ranges_of_keras_applications(name, mode):
    expected = keras.applications.imagenet_utils.preprocess_input(PICTURES.astype(np.float32), mode=mode)
    np.testing.assert_allclose(scaled(PICTURES, name), expected, rtol=1e-5, atol=1e-5)


def test_plain_ranges():
    np.testing.assert_array_equal(scaled(PICTURES, "0..255"), PICTURES.astype(np.float32))
    np.testing.assert_array_equal(scaled(PICTURES, "0..1"), PICTURES.astype(np.float32) / 255)
    assert all(scaled(PICTURES, name).dtype == np.float32 for name in RANGES)


def test_what_does_not_go():
    with pytest.raises(ValueError, match=r"^range: expected one of 0..255, .*, got '0..2'$"):
        scaled(PICTURES, "0..2")
    with pytest.raises(ValueError, match=r"^range: expected pictures of 3 channels for 'torch', got 1$"):
        scaled(PICTURES[..., :1], "torch")
