"""The rewrites: the float function stays."""

import numpy as np
import pytest

from keras_dbq.compat import keras
from keras_dbq.wrapping import wrappers
from tests import nets


@pytest.mark.parametrize("make", nets.ALL, ids=lambda f: f.__name__)
def test_float_function_is_kept_by_the_rewrites(make):
    x = nets.pictures(8, seed=3)
    q_model = nets.quantized(make)
    keras.utils.set_random_seed(0)
    model = make()
    with wrappers.quantizer_flags(q_model, weights_bypass=True, activations_bypass=True):
        got = q_model(x, training=False).numpy()
    want = model(x, training=False).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())
