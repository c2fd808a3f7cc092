"""Finished parts of a run come back exactly; a folder of another run is refused."""

import numpy as np
import pytest

from keras_dbq.solving.finished import Finished, digest


def test_what_was_saved_comes_back(tmp_path):
    arrays = [np.arange(6, dtype=np.int8).reshape(2, 3), np.float32(0.1), np.zeros(0)]
    Finished(tmp_path / "a" / "b", {"seed": 0}, "f").save(7, arrays)
    finished = Finished(tmp_path / "a" / "b", {"seed": 0}, "f")
    for old, new in zip(arrays, finished.load(7), strict=True):
        assert np.array_equal(old, new) and np.asarray(old).dtype == new.dtype
    assert finished.load(8) is None
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {"run.json", "part_0007.npz"}


def test_without_a_folder_nothing_is_kept():
    finished = Finished(None, {}, "f")
    finished.save(0, [np.zeros(2)])
    assert finished.load(0) is None


def test_another_run_is_refused(tmp_path):
    Finished(tmp_path, {"seed": 0, "pictures": 5}, "f")
    with pytest.raises(ValueError, match="f: workdir .* expected a run with the same settings, .* another seed"):
        Finished(tmp_path, {"seed": 1, "pictures": 5}, "f")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="f: workdir: expected a folder, got the file"):
        Finished(tmp_path / "file", {}, "f")


def test_a_digest_tells_values_shapes_and_types_apart():
    a = np.arange(6, dtype=np.float32)
    names = {
        digest([a]),
        digest([a.reshape(2, 3)]),
        digest([a.view(np.int32)]),
        digest([a + 1]),
        digest([a[:3], a[3:]]),
    }
    assert len(names) == 5 and digest([a]) == digest([a.copy()])
