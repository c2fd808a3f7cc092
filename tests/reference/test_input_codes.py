"""Input codes are those of training, ties included."""

import numpy as np
import pytest

from keras_dbq.compat import tf
from keras_dbq.ops import activations as activation_ops
from keras_dbq.reference.rounding import input_codes

PIXELS = np.arange(256, dtype=np.float32)


@pytest.mark.parametrize(
    "x",
    [
        PIXELS / np.float32(127.5) - np.float32(1),
        PIXELS / np.float32(128) - np.float32(1),
        PIXELS / np.float32(255),
        PIXELS,
        (PIXELS / np.float32(255) - np.float32(0.485)) / np.float32(0.229),
        np.random.default_rng(0).normal(size=100_000).astype(np.float32),
    ],
    ids=["x/127.5-1", "x/128-1", "x/255", "x", "imagenet", "normal"],
)
def test_equal_to_the_fake_quant_of_training(x):
    low, high = min(float(x.min()), 0.0), float(x.max())
    scale, zero_point = activation_ops.nudged_grid(low, high)
    y = tf.quantization.fake_quant_with_min_max_vars(x, low, high).numpy()
    wanted = np.rint(y / scale) + zero_point
    np.testing.assert_array_equal(input_codes(x, scale, zero_point), wanted)


def test_out_of_range_is_clipped():
    x = np.array([-np.inf, -5, 5, np.inf], np.float32)
    np.testing.assert_array_equal(input_codes(x, np.float32(0.01), 0), [-128, -128, 127, 127])
