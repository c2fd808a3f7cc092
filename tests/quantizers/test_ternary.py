"""Codes and scales given to a ternary quantizer from outside."""

import numpy as np
import pytest

from keras_dbq.compat import keras
from keras_dbq.quantizers import TernaryBranchQuantizer


def _built(branches, thresholds, kernel):
    quantizer = TernaryBranchQuantizer(branches, "straight_through", thresholds)
    layer = keras.layers.Layer()
    variables = quantizer.build(kernel.shape, "kernel", layer)
    quantizer.initialize(kernel.numpy(), variables)
    return quantizer, variables


@pytest.mark.parametrize("thresholds", ["midpoint", "trained"])
@pytest.mark.parametrize("branches", [1, 2, 3])
def test_assigned_codes_are_kept_and_no_weight_goes_further_than_it_has_to(branches, thresholds):
    import tensorflow as tf

    rng = np.random.default_rng(branches)
    kernel = tf.Variable(rng.normal(size=(3, 3, 5, 7)).astype(np.float32))
    quantizer, variables = _built(branches, thresholds, kernel)
    before, columns = kernel.numpy(), kernel.numpy().reshape(-1, 7)
    codes = rng.integers(-1, 2, (branches, *columns.shape)).astype(np.int8)
    scales = np.sort(rng.uniform(0.2, 1.5, (branches, 7)), 0)[::-1] * 3.0 ** -np.arange(branches)[:, None]
    quantizer.assign(kernel, variables, codes, scales)
    got = quantizer.ternary_weights(kernel.numpy(), variables)
    levels = (got.codes * got.scales[:, None, None, None]).sum(0)
    wanted = (codes * scales[:, None]).sum(0).reshape(before.shape)
    np.testing.assert_array_equal(got.codes.reshape(codes.shape), codes)
    np.testing.assert_allclose(levels, wanted, atol=0.03)  # scales go to 127ths
    # Between where a weight was and its level, short of the level.
    after = kernel.numpy()
    assert np.all(np.abs(after - levels) <= np.abs(before - levels) + 1e-5)
    assert np.all(np.abs(after - before) < np.abs(levels - before) + 1e-6)
    assert np.abs(after - before).mean() < np.abs(levels - before).mean() - 0.01


def test_a_second_assignment_of_the_same_codes_moves_nothing():
    import tensorflow as tf

    kernel = tf.Variable(np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32))
    quantizer, variables = _built(2, "midpoint", kernel)
    codes = np.random.default_rng(1).integers(-1, 2, (2, 20, 4)).astype(np.int8)
    scales = np.array([[1.0] * 4, [0.4] * 4])
    quantizer.assign(kernel, variables, codes, scales)
    once = kernel.numpy()
    quantizer.assign(kernel, variables, codes, scales)
    np.testing.assert_array_equal(kernel.numpy(), once)
