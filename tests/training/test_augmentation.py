"""Shifted pictures are windows of the picture and its mirror image at the edges; the seed decides."""

import itertools

import numpy as np
import pytest

from keras_dbq.training.augmentation import WAYS, augmented

X = np.arange(6 * 16 * 24 * 2, dtype=np.float32).reshape(6, 16, 24, 2)


def changed(x, ways, seed=(0, 1)):
    return augmented(x, ways, list(seed)).numpy()


def windows(picture, ways):
    padded = np.pad(picture, ((2, 2), (3, 3), (0, 0)), mode="symmetric") if "shift" in ways else picture
    for i, j in itertools.product(range(5), range(7)) if "shift" in ways else [(0, 0)]:
        window = padded[i : i + 16, j : j + 24]
        yield window
        if "mirror" in ways:
            yield window[:, ::-1]


@pytest.mark.parametrize("ways", [("shift",), ("mirror",), ("shift", "mirror"), ()])
def test_each_picture_becomes_a_window(ways):
    for picture, copy in zip(X, changed(X, ways), strict=True):
        assert any(np.array_equal(copy, window) for window in windows(picture, ways))


def test_the_seed_decides_and_some_are_mirrored():
    assert np.array_equal(changed(X, WAYS), changed(X, WAYS))
    assert not np.array_equal(changed(X, WAYS), changed(X, WAYS, (0, 2)))
    many = changed(np.repeat(X[:1], 50, 0), ("shift", "mirror"))
    assert 10 < (many[:, 8, 12, 0] > many[:, 8, 13, 0]).sum() < 40


def test_every_window_is_drawn():
    many = changed(np.repeat(X[:1], 500, 0), ("shift",))
    assert len({copy.tobytes() for copy in many}) == 5 * 7


def test_small_pictures_stay_where_they_are():
    x = np.random.default_rng(0).normal(size=(3, 4, 4, 1)).astype(np.float32)
    assert np.array_equal(changed(x, ("shift",)), x)


def test_a_mixture_lies_between_a_picture_and_its_neighbour():
    x = np.arange(4, dtype=np.float32)[:, None, None, None] * np.ones((4, 2, 2, 1), np.float32)
    y = changed(x, ("mix",))
    assert np.ptp(y, axis=(1, 2, 3)).max() == 0
    for own, other, got in zip(x[:, 0, 0, 0], np.roll(x[:, 0, 0, 0], 1), y[:, 0, 0, 0], strict=True):
        assert min(own, other) <= got <= max(own, other) and got not in (own, other)


def test_shape_and_kind_stay():
    for dtype, wanted in ((np.float32, np.float32), (np.float16, np.float16), (np.uint8, np.float32)):
        y = augmented(X.astype(dtype), WAYS, [1, 2])
        assert y.shape == X.shape and y.dtype == wanted


def test_a_crop_lies_within_its_picture_and_has_its_size():
    height, width = 40, 60
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    x = np.repeat(np.stack([rows, columns], -1).astype(np.float32)[None], 200, 0)
    y = changed(x, ("crop",))
    tall, wide = (y[:, -1, 0, 0] - y[:, 0, 0, 0]) / (height - 1), (y[:, 0, -1, 1] - y[:, 0, 0, 1]) / (width - 1)
    assert y.shape == x.shape and y.min() >= 0 and y[..., 0].max() <= height - 1 and y[..., 1].max() <= width - 1
    area, ratio = tall * wide, wide / tall
    assert 0.34 < area.min() < 0.45 and 0.9 < area.max() <= 1.0001
    assert 0.7 < ratio.min() < 0.85 and 1.2 < ratio.max() < 1.4
    assert np.ptp(y[:, 0, 0, 0]) > 5 and np.ptp(y[:, 0, 0, 1]) > 5


def test_colours_change_within_the_batchs_range():
    x = np.random.default_rng(0).uniform(-1, 1, (50, 8, 8, 3)).astype(np.float32)
    x[:, 0] = 0.5
    y = changed(x, ("colour",))
    assert y.min() >= x.min() and y.max() <= x.max() and not np.array_equal(x, y)
    moved = y[:, 0] - 0.5  # one colour stays one colour in each picture
    assert np.ptp(moved, axis=1).max() < 1e-6
    assert np.ptp(moved.mean((1, 2))) > 0.2 and 0.02 < np.ptp(moved[:, 0], axis=1).mean() < 0.3
    assert (np.argsort(y[:, 1:].reshape(50, -1, 3), 1) == np.argsort(x[:, 1:].reshape(50, -1, 3), 1)).mean() > 0.7
    contrast = y[:, 1:].std((1, 2, 3)) / x[:, 1:].std((1, 2, 3))
    assert contrast.min() < 0.85 and contrast.max() > 1.05
