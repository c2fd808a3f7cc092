"""Calibration data in every form, and what is refused."""

import numpy as np
import pytest

from keras_dbq.compat import tf
from tests import nets


def test_calibration_data_in_every_form():
    model, x = nets.resnet(), nets.pictures(100)
    forms = {
        "array": x,
        "dataset": tf.data.Dataset.from_tensor_slices(x).batch(50),
        "labelled": tf.data.Dataset.from_tensor_slices((x, np.zeros(100))).batch(50),
        "generator": (x[i : i + 50] for i in (0, 50)),
        "pictures": list(x),
    }
    weights = {name: nets.quantize(model, data).get_weights() for name, data in forms.items()}
    for name, values in weights.items():
        for a, b in zip(values, weights["array"], strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4, err_msg=name)


@pytest.mark.parametrize(
    "data, error, message",
    [
        (np.zeros((0, *nets.SHAPE)), ValueError, "expected at least one batch of pictures"),
        (np.full((4, *nets.SHAPE), np.nan), ValueError, "NaN or infinity"),
        (np.zeros((4, 8, 8, 3)), ValueError, r"expected batches of shape \[N"),
        (np.zeros((4, 8)), ValueError, "expected an array of shape"),
        ("pictures.npz", TypeError, "expected an array, a tf.data.Dataset or an iterable"),
        (3, TypeError, "expected an array, a tf.data.Dataset or an iterable"),
        ([np.zeros((0, *nets.SHAPE))], ValueError, "empty batch"),
    ],
)
def test_bad_calibration_data(data, error, message):
    with pytest.raises(error, match=message):
        nets.quantize(nets.sequential(), data)
