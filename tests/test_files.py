"""keras_dbq._files: files are there completely or not at all, and a bad place is refused before the work."""

import os
import re

import pytest

from keras_dbq._files import check_path, write_file


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old and longer")
    write_file(path, b"new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["f"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("use", [check_path, lambda path: write_file(path, b"")])
def test_bad_places(tmp_path, use, monkeypatch):
    path = tmp_path / "missing" / "f"
    message = f"path: expected a file in an existing folder, got '{path}'; create '{path.parent}'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        use(path)
    with pytest.raises(ValueError, match="path: expected a file, got the folder"):
        use(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="path: expected a folder that can be written to, got"):
        use(tmp_path / "f")
    assert os.listdir(tmp_path) == []


def test_a_name_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_path("f")
    write_file("f", b"1")
    assert (tmp_path / "f").read_bytes() == b"1"
