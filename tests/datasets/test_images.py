"""Picture sets as arrays: contents, repeatability, and every documented error."""

import builtins

import numpy as np
import pytest

from keras_dbq import datasets
from tests.datasets import photos


def arrays(**changes):
    """The four arrays of a tiny valid set, with changes; a change to None leaves the array out."""
    rng = np.random.default_rng(0)
    stored = {
        "x_train": rng.integers(0, 256, (6, 5, 4, 3), np.uint8),
        "y_train": np.arange(6) % 3,
        "x_test": rng.integers(0, 256, (3, 5, 4, 3), np.uint8),
        "y_test": np.arange(3),
        **changes,
    }
    return {name: value for name, value in stored.items() if value is not None}


def saved(path, **changes):
    np.savez(path, **arrays(**changes))
    return str(path)


def test_digits_are_split_by_class_and_the_same_on_every_call():
    first, second = datasets.load("digits"), datasets.load("digits")
    assert first.x_train.dtype == np.uint8 and first.x_train.shape[1:] == (8, 8, 1)
    assert len(first.x_train) + len(first.x_test) == 1797
    assert first.classes == 10
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    share = np.bincount(first.y_test) / (np.bincount(first.y_train) + np.bincount(first.y_test))
    assert np.all(np.abs(share - 0.2) < 0.01)


def test_digits_seed_changes_the_split():
    assert not np.array_equal(datasets.load("digits", seed=0).y_test, datasets.load("digits", seed=1).y_test)


def test_digits_at_a_size_with_three_channels():
    images = datasets.load("digits", size=32, channels=3)
    assert images.x_train.shape[1:] == (32, 32, 3)
    np.testing.assert_array_equal(images.x_test[..., 0], images.x_test[..., 2])


def test_npz_comes_back_as_stored(tmp_path):
    path, stored = saved(tmp_path / "set.npz"), arrays()
    images = datasets.load(path)
    for name, value in stored.items():
        np.testing.assert_array_equal(getattr(images, name), value)
    assert images.classes == 3


def test_npz_of_grey_pictures_float_values_and_column_labels(tmp_path):
    x_train, x_test = np.full((2, 4, 4), 7.4), np.full((1, 4, 4), 200.0)
    path = saved(tmp_path / "set.npz", x_train=x_train, x_test=x_test, y_train=[[0], [1]], y_test=[1.0])
    images = datasets.load(path, channels=3)
    assert images.x_train.shape == (2, 4, 4, 3)
    assert np.all(images.x_train == 7) and np.all(images.x_test == 200)
    np.testing.assert_array_equal(images.y_train, [0, 1])


def test_colour_is_averaged_to_grey(tmp_path):
    x = np.zeros((3, 5, 4, 3), np.uint8) + np.array([10, 20, 60], np.uint8)
    images = datasets.load(saved(tmp_path / "set.npz", x_test=x), channels=1)
    assert np.all(images.x_test == 30)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "expected arrays x_train, y_train, x_test, y_test, got .*; add y_test"),
        ({"x_train": np.zeros((6, 5))}, r"x_train: expected pictures \[N, H, W\].*got \(6, 5\)"),
        ({"x_train": np.zeros((6, 5, 4, 2), np.uint8)}, "x_train: expected pictures"),
        ({"x_train": np.zeros((0, 5, 4, 3), np.uint8)}, "x_train: expected pictures"),
        ({"x_test": np.full((3, 5, 4, 3), np.nan)}, "x_test: .*got NaN"),
        ({"x_test": np.full((3, 5, 4, 3), 0.5)}, "x_test: expected values from 0 to 255, got 0.5 to 0.5"),
        ({"x_test": np.full((3, 5, 4, 3), 256)}, "x_test: expected values from 0 to 255, got 256"),
        ({"x_test": np.full((3, 5, 4, 3), -1)}, "x_test: expected values from 0 to 255, got -1"),
        ({"x_test": np.full((3, 5, 4, 3), "a")}, "x_test: expected numbers from 0 to 255, got dtype"),
        ({"x_test": np.zeros((3, 4, 4, 3), np.uint8)}, "x_train and x_test of one picture shape"),
        ({"y_train": np.zeros(5, int)}, r"y_train: expected one label per picture, \[6\], got \(5,\)"),
        ({"y_train": np.full(6, 0.5)}, "y_train: expected class numbers"),
        ({"y_train": np.full(6, -2)}, "y_train: expected class numbers"),
    ],
)
def test_a_bad_npz_is_a_one_line_error(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        datasets.load(saved(tmp_path / "set.npz", **changes))
    assert "\n" not in str(error.value)


def test_errors_of_arguments(tmp_path):
    with pytest.raises(ValueError, match="expected a file at .*none.npz"):
        datasets.load(str(tmp_path / "none.npz"))
    with pytest.raises(ValueError, match="channels: expected 1, 3 or None, got 2"):
        datasets.load("digits", channels=2)
    with pytest.raises(ValueError, match="size: expected a positive number of pixels"):
        datasets.load("digits", size=0)


@pytest.mark.parametrize(("spec", "package"), [("digits", "scikit-learn"), ("mnist", "tensorflow-datasets")])
def test_a_missing_package_is_named(monkeypatch, spec, package):
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] in ("sklearn", "tensorflow_datasets"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        datasets.load(spec)


def test_folders_are_collected(tmp_path):
    folder = photos.write(tmp_path)
    assert datasets.load(folder, size=8).x_train.shape == (6, 8, 8, 3)
    with pytest.raises(ValueError, match="pictures differ in size; give size"):
        datasets.load(folder)
