"""Argument checks that all modules share: one line that says what, what was expected, what came, what to do."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

SATURATION = 0.25  # choice: the share of clipped numbers from which it is told


def one_of(name: str, value: Any, allowed: Iterable[Any]) -> Any:
    """Returns value, or raises ValueError when it is not among `allowed`."""
    allowed = list(allowed)
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def integer(name: str, value: Any, low: int, high: int) -> int:
    """Returns value as int, or raises ValueError unless it is an integer in [low, high]."""
    if isinstance(value, bool) or int(value) != value or not low <= value <= high:
        raise ValueError(f"{name}: expected an integer from {low} to {high}, got {value!r}")
    return int(value)


def number(name: str, value: Any, low: float, high: float) -> float:
    """Returns value as float, or raises ValueError unless low <= value <= high (NaN is refused)."""
    if not low <= float(value) <= high:
        raise ValueError(f"{name}: expected a number from {low} to {high}, got {value!r}")
    return float(value)


def boolean(name: str, value: Any) -> bool:
    """Returns value, or raises TypeError unless it is a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return value


def batch_shape(name: str, x: np.ndarray, expected: Sequence[int]) -> None:
    """Raises ValueError unless x [N, ...] has the shape of an input but for the batch and axes of unknown size, -1."""
    fits = x.ndim == len(expected) and all(n in (-1, m) for n, m in zip(expected[1:], x.shape[1:], strict=True))
    if not fits or not len(expected):
        shown = ", ".join(["N", *("?" if n < 0 else str(n) for n in expected[1:])])
        what = "give a batch, x[None]" if x.ndim == len(expected) - 1 else "resize the pictures"
        raise ValueError(f"x for input {name!r}: expected shape [{shown}], got {list(x.shape)}; {what}")


def share_outside(x: np.ndarray, low: float, high: float) -> float:
    """Share of the numbers that are more than one of 255 steps outside of [low, high]."""
    step = (high - low) / 255
    return float(np.mean((x < low - step) | (x > high + step)))


def saturation_text(name: str, share: float) -> str:
    """What is said of an input that is mostly clipped."""
    return (
        f"{100 * share:.0f} % of input {name!r} lie outside of its calibrated range and are clipped: is it scaled as "
        "the calibration data were?"
    )


def in_order(what: str, value: Any, names: list[str]) -> list[Any]:
    """One array per input of a network: `value` is one array, a list or tuple in order, or a dict by `names`.

    Raises ValueError for another number of arrays or other names.
    """
    if isinstance(value, dict):
        if set(value) != set(names):
            raise ValueError(
                f"{what}: expected a dict with the inputs {', '.join(names)}, got {', '.join(map(str, value))}"
            )
        return [value[name] for name in names]
    arrays = list(value) if isinstance(value, (list, tuple)) else [value]
    if len(arrays) != len(names):
        raise ValueError(
            f"{what}: expected {len(names)} array(s), one per model input ({', '.join(names)}), got {len(arrays)}"
        )
    return arrays
