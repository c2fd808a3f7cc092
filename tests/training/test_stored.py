"""Numbers on disk in half precision, by picture."""

import numpy as np

from keras_dbq.training.stored import BATCH, Stored


def test_reading_and_a_function_of_it(tmp_path):
    x = np.random.default_rng(0).normal(size=(BATCH + 7, 3, 2)).astype(np.float32)
    stored = Stored(tmp_path / "x.npy", iter([x[:20], x[20:]]), len(x))
    assert len(stored) == len(x) and stored[3].dtype == np.float32
    np.testing.assert_allclose(stored[np.array([5, 50, 56])], x[[5, 50, 56]], rtol=1e-3)
    double = stored.through(lambda part: 2 * part[:, :, :1], tmp_path / "y.npy")
    np.testing.assert_allclose(double[np.arange(len(x))], 2 * x[:, :, :1], rtol=1e-3)
    stored.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["y.npy"]


def test_what_is_too_large_is_cut(tmp_path):
    stored = Stored(tmp_path / "x.npy", iter([np.array([[1e6], [-1e6]], np.float32)]), 2)
    assert np.isfinite(stored[[0, 1]]).all() and stored[0] > 6e4
