"""Pictures from folders and files, scaled, chosen by seed, and what is refused."""

import io

import numpy as np
import pytest

from keras_dbq.command import pictures
from keras_dbq.command.ranges import scaled
from keras_dbq.compat import keras
from tests.command import networks
from tests.datasets import photos
from tests.datasets.test_catalogue import made  # noqa: F401 (a fixture)

L = keras.layers


@pytest.fixture(scope="module")
def model():
    return networks.trained("-1..1")


def test_a_folder_of_photos_at_any_depth(tmp_path, model):
    folder = photos.write(tmp_path, train=6, test=4)
    data = pictures.read(str(folder), model, 100, "0..1")
    assert data.x.shape == (20, 16, 16, 3) and data.x.dtype == np.float32 and 0 <= data.x.min() < data.x.max() <= 1
    assert str(data) == f"20 examples of {folder}, range 0..1 (as asked)"
    few = pictures.read(str(folder), model, 4, "0..1", seed=3)
    assert few.count == 4
    np.testing.assert_array_equal(few.x, pictures.read(str(folder), model, 4, "0..1", seed=3).x)
    assert any(not np.array_equal(few.x, pictures.read(str(folder), model, 4, "0..1", seed=s).x) for s in range(5))


def test_integers_of_a_file_are_pictures(tmp_path, model):
    raw = networks.photos()
    np.savez(tmp_path / "a.npz", x_train=raw, y_train=np.zeros(40), x_test=raw[:3])
    data = pictures.read(str(tmp_path / "a.npz"), model, 40)
    assert (data.range, data.found) == ("-1..1", "found from the network")
    np.testing.assert_array_equal(data.x, scaled(raw, "-1..1"))
    np.testing.assert_array_equal(data.first(3), data.x[:3])
    np.testing.assert_array_equal(data.behind(30), data.x[30:])
    np.save(tmp_path / "a.npy", raw.repeat(2, 1).repeat(2, 2))
    np.testing.assert_allclose(pictures.read(str(tmp_path / "a.npy"), model, 40).x, data.x, atol=0.01)


def test_other_numbers_are_taken_as_they_are(tmp_path, model):
    x = np.random.default_rng(0).normal(size=(5, 16, 16, 3))
    np.savez(tmp_path / "a.npz", photo=x)
    data = pictures.read(str(tmp_path / "a.npz"), model, 10)
    np.testing.assert_array_equal(data.x, x.astype(np.float32))
    assert data.range == "as given"


def test_several_inputs_by_name(tmp_path):
    a, b = keras.Input((3,), name="left"), keras.Input((4,), name="right")
    model = keras.Model([a, b], L.Concatenate()([a, b]))
    np.savez(tmp_path / "a.npz", right=np.ones((6, 4)), left=np.zeros((6, 3)), other=np.zeros(1))
    data = pictures.read(str(tmp_path / "a.npz"), model, 5)
    assert [x.shape for x in data.x] == [(5, 3), (5, 4)] and data.count == 5
    assert [x.shape for x in data.behind(2)] == [(3, 3), (3, 4)]
    with pytest.raises(ValueError, match=r"photos are for networks of one input .*left, right$"):
        pictures.read(str(tmp_path), model, 5, "0..1")


def test_what_is_asked_where_the_range_is_unclear(tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input((16, 16, 3)), L.Conv2D(4, 3), L.Flatten()])
    np.save(tmp_path / "a.npy", networks.photos())
    with pytest.raises(ValueError, match=r"^range: the network does not show .*; give --range, one of 0..255, "):
        pictures.read(str(tmp_path / "a.npy"), model, 5)

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal("0..1\n"))
    assert pictures.read(str(tmp_path / "a.npy"), model, 5).range == "0..1"
    monkeypatch.setattr("sys.stdin", Terminal("0..7\n"))
    with pytest.raises(ValueError, match=r"^range: expected one of .*, got '0..7'$"):
        pictures.read(str(tmp_path / "a.npy"), model, 5)


@pytest.mark.parametrize(
    ("name", "arrays", "message"),
    [
        ("none.npz", None, r"^data: expected a file at .*none.npz, found none"),
        ("a.npz", {"a": np.ones((2, 3)), "b": np.ones((2, 3))}, r"names of the inputs \(photo\), .*; got a, b$"),
        ("a.npz", {"x": np.full((2, 16, 16, 3), np.nan)}, r"expected finite numbers"),
        ("a.npz", {"x": np.zeros((0, 16, 16, 3))}, r"expected arrays of one length of at least 1, got \[0\]$"),
        ("a.npz", {"x": np.full((2, 16, 16, 3), 300)}, r"expected pictures \[N, H, W, 1 or 3\] of 0..255"),
        ("a.npz", {"x": np.array(["a", "b"])}, r"expected finite numbers"),
    ],
)
def test_files_that_are_refused(name, arrays, message, tmp_path, model):
    if arrays is not None:
        np.savez(tmp_path / name, **arrays)
    with pytest.raises(ValueError, match=message):
        pictures.read(str(tmp_path / name), model, 5, "0..1")


def test_folders_and_networks_that_are_refused(tmp_path, model):
    with pytest.raises(ValueError, match=r"expected photos \(.jpg, .*\) at any depth, got none$"):
        pictures.read(str(tmp_path), model, 5, "0..1")
    (tmp_path / "a.jpg").write_bytes(b"no photo")
    with pytest.raises(ValueError, match=r"a.jpg: expected a photo, got a file that cannot be decoded"):
        pictures.read(str(tmp_path), model, 5, "0..1")
    with pytest.raises(ValueError, match=r"^pictures: expected at least 1, got 0$"):
        pictures.read(str(tmp_path), model, 0)
    free = keras.Sequential([keras.Input((None, None, 3)), L.Conv2D(4, 3)])
    with pytest.raises(ValueError, match=r"^data: expected a network of fixed input size"):
        pictures.read(str(tmp_path), free, 5, "0..1")
    wide = keras.Sequential([keras.Input((16, 24, 3)), L.Conv2D(4, 3)])
    with pytest.raises(ValueError, match=r"^data: photos are cut to squares, the network takes 16 x 24"):
        pictures.read(str(tmp_path), wide, 5, "0..1")


def test_a_set_of_tensorflow_datasets_by_name(made, model):  # noqa: F811 (the fixture)
    data = pictures.read(made, model, 10, "0..1")
    assert data.x.shape == (10, 16, 16, 3) and data.x.dtype == np.float32
    assert 0 <= data.x.min() < data.x.max() <= 1
