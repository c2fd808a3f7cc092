"""Names of tensors in our files: after the layer that computes them, then #2, #3, ... and endings."""

from __future__ import annotations

# Ending of the name of a tensor whose codes a MAXIMUM of ours clips from below: an activation under 8 bits.
UNCLAMPED = "/unclamped"
_NUMBER = "#"


class UniqueNames:
    """Names given so far."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def give(self, name: str) -> str:
        """The name, or the first of name#2, name#3, ... that is free; it is taken from now on."""
        suffix, candidate = 1, name
        while candidate in self._taken:
            suffix += 1
            candidate = f"{name}{_NUMBER}{suffix}"
        self._taken.add(candidate)
        return candidate


def layer_of(name: str) -> str:
    """The layer that a tensor is called after: `pool#2` -> `pool`."""
    return name.split(_NUMBER)[0]
