"""What has no counterpart in tf_keras: collected on the way, told all at once."""

from collections.abc import Iterable
from typing import Any

from keras_dbq.network.obstacles import Obstacle, Obstacles


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


class NotConverted(ValueError):
    """A Keras 3 model that cannot be converted, in one line; `obstacles` has the same as a list."""

    def __init__(self, message: str, obstacles: Iterable[Obstacle]):
        super().__init__(message)
        self.obstacles = Obstacles(obstacles)


def obstacle(operation: Any, error: Exception) -> Obstacle:
    """Why a layer, operation or model cannot be converted; an error that is not ours is tf_keras' answer to it."""
    if isinstance(error, NoCounterpart):
        why, _, advice = str(error).rpartition("; ")
    else:
        why, advice = f"tf_keras refuses it ({type(error).__name__}: {first_line(error)})", "replace it"
    reason = f"from_keras3 cannot convert it: {why}"
    return Obstacle(operation.name, type(operation).__name__, reason, advice, fatal=True)


class Missing:
    """The list, each layer once."""

    def __init__(self) -> None:
        self.found: dict[str, Obstacle] = {}

    def add(self, operation: Any, error: Exception) -> None:
        """Notes why a layer cannot be converted."""
        self.found.setdefault(kind(operation), obstacle(operation, error))

    def check(self, model: Any) -> None:
        """Raises NotConverted, one line with all of them, if there are any."""
        if self.found:
            listed = "; ".join(f"{what}: {_why(found)}" for what, found in self.found.items())
            raise NotConverted(
                f"from_keras3: model {model.name!r} has parts without a counterpart in tf_keras: {listed}",
                self.found.values(),
            )


def _why(found: Obstacle) -> str:
    return f"{found.reason.partition(': ')[2]}; {found.advice}"
