"""What has no counterpart in tf_keras: collected on the way, told all at once."""

from typing import Any


class NoCounterpart(ValueError):
    """One layer or operation cannot be converted: why, and what to do."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text that says something; Keras puts "Exception encountered" before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Exception encountered when calling")]
    return lines[0] if lines else type(error).__name__


def kind(operation: Any) -> str:
    """`layer 'a' of type Dense` or `operation 'add_1' of type Add`."""
    word = "layer" if hasattr(operation, "weights") else "operation"
    return f"{word} {operation.name!r} of type {type(operation).__name__}"


class Missing:
    """The list, each layer once."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def add(self, operation: Any, error: Exception) -> None:
        """Notes why a layer cannot be converted; an error that is not ours is tf_keras' answer to the layer's call."""
        ours = isinstance(error, NoCounterpart)
        why = str(error) if ours else f"tf_keras refuses it ({type(error).__name__}: {first_line(error)})"
        self.found.setdefault(kind(operation), why)

    def check(self, model: Any) -> None:
        """Raises ValueError, one line with all of them, if there are any."""
        if self.found:
            listed = "; ".join(f"{what}: {why}" for what, why in self.found.items())
            raise ValueError(f"from_keras3: model {model.name!r} has parts without a counterpart in tf_keras: {listed}")
