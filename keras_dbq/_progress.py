"""The one progress bar: shown where the output is a terminal, or where it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from typing import Any, TypeVar

from keras_dbq.compat import keras

Item = TypeVar("Item")


def is_shown(asked: bool | None) -> bool:
    """Whether to show a bar: as asked; None: where the output is a terminal."""
    return sys.stdout.isatty() if asked is None else asked


def bar(what: str, count: int, unit: str) -> Any:
    """Says what is done, and returns a bar of `count` units; `add(n)` moves it."""
    print(what, flush=True)
    return keras.utils.Progbar(count, unit_name=unit)


def over(items: Collection[Item], what: str, unit: str, asked: bool | None = None) -> Iterator[Item]:
    """The items, with a bar that moves one unit for each that is done."""
    shown = bar(what, len(items), unit) if items and is_shown(asked) else None
    for item in items:
        yield item
        if shown is not None:
            shown.add(1)
