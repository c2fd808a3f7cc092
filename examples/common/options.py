"""Flags that hold several settings: "name=value,name=value"."""

from __future__ import annotations

import ast
from typing import Any


def parse(text: str, defaults: dict[str, Any] | None = None, flag: str = "option") -> dict[str, Any]:
    """Parses "a=1,b=hard" over `defaults`.

    Values are Python literals where they read as one (numbers, True, None, "{'conv_1': {'bits': 8}}"), strings
    otherwise. Commas inside brackets belong to the value.

    Args:
      text: the flag's value; empty for no settings.
      defaults: known names and their values; None accepts any name.
      flag: name of the flag, for messages.
    Raises:
      ValueError: a part without "=", or a name that is not among the defaults.
    """
    options = dict(defaults or {})
    for part in filter(None, _split(text)):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ValueError(f"--{flag}: expected name=value, got {part!r}; for example --{flag}=a=1,b=2")
        if defaults is not None and name not in defaults:
            raise ValueError(f"--{flag}: expected one of {', '.join(defaults)}, got {name!r}")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = value
    return options


def _split(text: str) -> list[str]:
    """Parts between the commas that stand outside of brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts
