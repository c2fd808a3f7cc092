"""TensorFlow's start without the log of its C++ parts: who starts a command reads its answer."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile


def load_tensorflow(module: str = "keras_dbq.compat") -> None:
    """Imports it. Its messages on the file descriptor of standard error are shown only where the import fails."""
    if module in sys.modules:
        return
    sys.stderr.flush()
    own = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            importlib.import_module(module)
        except BaseException:
            held.seek(0)
            os.write(own, held.read())
            raise
        finally:
            os.dup2(own, 2)
            os.close(own)
