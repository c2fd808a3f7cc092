"""What a run needs at its end is looked for at its start."""

from __future__ import annotations

from typing import Any

import keras_dbq
from examples.common import options


def check_arguments(arguments: Any) -> Any:
    """Makes the work folder and the scheme; None without branches.

    Raises ValueError on a weight outside of 0..1 and on settings that the scheme does not know.
    """
    if not 0 <= arguments.distill <= 1:
        raise ValueError(f"--distill: expected a weight from 0 to 1, got {arguments.distill}")
    arguments.workdir.mkdir(parents=True, exist_ok=True)
    if not arguments.branches:
        return None
    return keras_dbq.DBQScheme(branches=arguments.branches, **options.parse(arguments.scheme, flag="scheme"))
