"""Files that are there completely or not at all."""

import os
import tempfile
from pathlib import Path


def write_file(path: str | os.PathLike, data: bytes) -> None:
    """Writes data under a temporary name beside `path`, then renames: a reader sees the old file or the new one.

    Raises:
      ValueError: the folder does not exist.  OSError: it cannot be written to.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"path: expected a file in an existing folder, got {str(path)!r}; create {str(path.parent)!r}")
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
