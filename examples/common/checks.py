"""What a run needs at its end is looked for at its start: hours of training lie between."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from examples.common import options
from keras_dbq.runtime import interpreter


def workdir(path: Path, flag: str = "workdir") -> Path:
    """Makes the folder and writes into it.

    Raises ValueError where that fails.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise ValueError(f"--{flag} {path}: expected a folder that can be written to, got {error.strerror}") from None
    return path


def delegate() -> None:
    """Loads the delegate that runs packed files.

    Raises ValueError where there is none, or it does not load here.
    """
    try:
        interpreter._runtime().load_delegate(str(interpreter.delegate_path()))
    except (FileNotFoundError, OSError, ValueError) as error:
        raise ValueError(
            f"packed files: expected a delegate that loads, got: {error}; run `pip install .` in the repository"
        ) from None


def packages(*modules: str) -> None:
    """Raises ImportError where a module that the run ends with is not installed."""
    names = {"sklearn": "scikit-learn", "PIL": "pillow"}
    missing = [names.get(m, m) for m in modules if importlib.util.find_spec(m) is None]
    if missing:
        raise ImportError(
            f"expected the packages {', '.join(missing)}, found none; run: pip install {' '.join(missing)}"
        )


def scheme(kind: type, text: str, branches: int | None = None) -> Any:
    """The scheme that --scheme describes, with --branches where the scheme has them.

    Raises ValueError on names and values that the scheme does not take, and for branches that do not pack.
    """
    own = {} if branches is None else {"branches": branches}
    chosen = options.scheme_options(kind, text, tuple(own))
    for layer, settings in (chosen["overrides"] or {}).items() if own else ():
        if settings.get("branches", 1) not in (1, 2):
            raise ValueError(f"--scheme: overrides: {layer}: expected 1 or 2 branches, which pack, got {settings}")
    try:
        return kind(**own, **chosen)
    except (TypeError, ValueError) as error:
        raise ValueError(f"--scheme: {error}") from None


def number(flag: str, value: Any, low: float, high: float) -> None:
    """Raises ValueError unless low <= value <= high."""
    if not low <= value <= high:
        raise ValueError(f"--{flag}: expected {low} to {high}, got {value}")
