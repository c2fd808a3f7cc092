"""The start of TensorFlow is silent where it succeeds, and tells all where it fails."""

import sys

import pytest

from keras_dbq.command import startup


@pytest.mark.parametrize("fails", [False, True])
def test_messages_are_shown_only_where_it_fails(fails, tmp_path, monkeypatch, capfd):
    text = "import os\nos.write(2, b'a message of C++')\n"
    (tmp_path / f"starts_{fails}.py").write_text(text + "raise ImportError('no library')\n" * fails)
    monkeypatch.syspath_prepend(tmp_path)
    if fails:
        with pytest.raises(ImportError, match="no library"):
            startup.load_tensorflow(f"starts_{fails}")
    else:
        startup.load_tensorflow(f"starts_{fails}")
        assert f"starts_{fails}" in sys.modules
    print("after", file=sys.stderr)
    assert capfd.readouterr().err == ("a message of C++" if fails else "") + "after\n"
