"""What a subcommand is, what it gives back, and the flags that several of them share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from keras_dbq._files import check_path


@dataclass(frozen=True)
class Outcome:
    """text: for people.  data: the same for programs, of JSON's types.  good: False ends with exit code 1."""

    text: str
    data: dict[str, Any] = field(default_factory=dict)
    good: bool = True


class Command(NamedTuple):
    """A subcommand: its name, a sentence, its flags, and what it does."""

    name: str
    help: str
    add_flags: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Outcome]


def add_output(parser: argparse.ArgumentParser, required: bool) -> None:
    """The flags -o and --force."""
    parser.add_argument("-o", "--output", required=required, metavar="FILE", help="the file to write")
    parser.add_argument("--force", action="store_true", help="replace files that exist")


def check_output(path: str, force: bool) -> None:
    """To be asked before the work whose result the file will hold.

    Raises:
      ValueError: the file exists and is not to be replaced, or its folder does not exist.
    """
    check_path(path)
    if Path(path).exists() and not force:
        raise ValueError(f"{path}: expected no such file, got one; give another name, or --force to replace it")
