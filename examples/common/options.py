"""Flags that hold several settings: "name=value,name=value"."""

from __future__ import annotations

import ast
import inspect
from typing import Any


def parse(text: str, defaults: dict[str, Any], flag: str, kinds: dict[str, type] | None = None) -> dict[str, Any]:
    """Parses "a=1,b=hard" over `defaults`.

    Values are Python literals where they read as one (numbers, True, None, "{'conv_1': {'bits': 8}}"), strings
    otherwise. Commas inside brackets belong to the value.

    Args:
      text: the flag's value; empty for no settings.
      defaults: known names and their values; a value has the type of its default (a float takes whole numbers).
      flag: name of the flag, for messages.
      kinds: types of the settings whose default is None; these take None as well.
    Raises:
      ValueError: a part without "=", a name that is not among the defaults, a value of another type.
    """
    options = dict(defaults)
    for part in filter(None, _split(text)):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ValueError(f"--{flag}: expected name=value, got {part!r}; for example --{flag}=a=1,b=2")
        if name not in defaults:
            raise ValueError(f"--{flag}: expected one of {', '.join(defaults)}, got {name!r}")
        options[name] = _checked(f"--{flag}: {name}", _literal(value), defaults[name], (kinds or {}).get(name))
    return options


def scheme_options(scheme: type, text: str, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The arguments of a scheme from the flag --scheme, except those that have a flag of their own.

    Raises ValueError as `parse` does.
    """
    parameters = inspect.signature(scheme).parameters
    defaults = {name: p.default for name, p in parameters.items() if name not in without}
    return parse(text, defaults, "scheme", {"overrides": dict, "init": str})


def _literal(value: str) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def _checked(name: str, value: Any, default: Any, kind: type | None) -> Any:
    """The value, a whole number as float where one is expected."""
    if default is None and value is None:
        return None
    expected = kind or type(default)
    if expected is float and type(value) is int:
        value = float(value)
    if type(value) is not expected:
        raise ValueError(f"{name}: expected {_WORDS[expected]}, got {value!r}")
    return value


_WORDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a name",
    dict: "settings by layer, such as {'conv_1': {'bits': 8}}",
}


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
