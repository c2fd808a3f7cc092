"""Files that are there completely or not at all."""

import os
import tempfile
from pathlib import Path


def check_path(path: str | os.PathLike) -> None:
    """Says whether a file can be written to `path`: to be asked before the work whose result it will hold.

    Raises:
      ValueError: the folder does not exist, or `path` is a folder.  PermissionError: it cannot be written to.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"path: expected a file in an existing folder, got {str(path)!r}; create {str(path.parent)!r}")
    if path.is_dir():
        raise ValueError(f"path: expected a file, got the folder {str(path)!r}; give the file a name")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"path: expected a folder that can be written to, got {str(path.parent)!r}; use another")


def write_file(path: str | os.PathLike, data: bytes) -> None:
    """Writes data under a temporary name beside `path`, then renames: a reader sees the old file or the new one.

    Raises:
      ValueError, PermissionError: see `check_path`.  OSError: the disk is full, ...
    """
    check_path(path)
    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
