"""One operator as the rules of this room see it: its tensors, the sizes that are known, its constant arguments."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from keras_dbq.structure.tensors import damaged, scales_of

# Sizes are numbers, or one of these. Converters write 1 where a size is OPEN: it follows from the size of an input that
# the file leaves open, the batch as a rule. ANY: what the file says is not looked at.
OPEN, ANY = -1, -2
Shape = tuple[int, ...]
_FORMATS = {"INT32": "i", "INT64": "q", "UINT32": "I"}
# choice: the rules read sizes, axes and indices; longer lists are values.
_LONGEST_LIST = 1 << 16


class Node:
    """An operator of the file. `inputs` and `outputs` are its tensors (None: left out), `options` a table or None."""

    def __init__(self, index: int, name: str, inputs: list[Any], outputs: list[Any], options: Any, data: bytes):
        self.index, self.name, self.options, self.data = index, name, options, data
        self.inputs, self.outputs = inputs, outputs

    def fail(self, expected: object, got: object) -> ValueError:
        return damaged(f"operator {self.index} ({self.name})", expected, got)

    def shape(self, i: int) -> Shape:
        """The shape of input i as far as it is known."""
        tensor = self.inputs[i] if i < len(self.inputs) else None
        if tensor is None:
            raise self.fail(f"an input {i}", "none")
        return tensor.known

    def type(self, i: int) -> str:
        return self.inputs[i].type_name

    def rank(self, i: int, *allowed: int) -> Shape:
        """The shape of input i, which has one of these ranks."""
        shape = self.shape(i)
        if len(shape) not in allowed:
            raise self.fail(f"input {i} of rank {' or '.join(map(str, allowed))}", f"the shape {shape}")
        return shape

    def has(self, i: int) -> bool:
        return i < len(self.inputs) and self.inputs[i] is not None

    def option(self, name: str, default: int = 0) -> Any:
        return default if self.options is None else getattr(self.options, name)

    def choice(self, name: str, low: int, high: int, default: int = 0) -> int:
        """An option between two bounds."""
        value = self.option(name, default)
        if not low <= value <= high:
            raise self.fail(f"{name} from {low} to {high}", value)
        return int(value)

    def numbers(self, i: int) -> Shape | None:
        """The integers of constant input i, one after the other; None where the graph computes them."""
        tensor = self.inputs[i] if i < len(self.inputs) else None
        if tensor is None or not tensor.constant:
            return None
        if tensor.type_name not in _FORMATS:
            raise self.fail(f"integers in input {i}", tensor.type_name)
        count = math.prod(tensor.shape)
        if count > _LONGEST_LIST:
            return None
        return struct.unpack_from(
            f"<{count}{_FORMATS[tensor.type_name]}", self.data, tensor.place.start if count else 0
        )

    def number(self, i: int, low: int, high: int) -> int | None:
        """The one integer of constant input i, between two bounds."""
        values = self.numbers(i)
        if values is not None and (len(values) != 1 or not low <= values[0] <= high):
            raise self.fail(f"one number from {low} to {high} in input {i}", values)
        return None if values is None else values[0]

    def axis(self, value: int, rank: int) -> int:
        """An axis counted from the front."""
        if not -rank <= value < rank:
            raise self.fail(f"an axis of {rank}", value)
        return value % rank if rank else 0

    def scale(self, tensor: Any) -> float:
        """The one scale of a quantized tensor."""
        scales = scales_of(tensor)
        if len(scales) != 1:
            raise self.fail(f"one scale of {tensor.label}", len(scales))
        return float(scales[0])


class Rule(NamedTuple):
    """What is known of one kind of operator. `shapes` gives what its outputs' shapes are; None: open."""

    inputs: tuple[int, int]  # the fewest and the most
    outputs: tuple[int, int]
    shapes: Callable[[Node], list[Shape | None]]


RULES: dict[str, Rule] = {}
MANY = 1 << 16


def rule(names: str, inputs: tuple[int, int], outputs: tuple[int, int] = (1, 1)) -> Callable[[Any], Any]:
    """Decorator: `function(node)` gives the shapes of the outputs of these operators, or raises what is wrong."""

    def add(function: Callable[[Node], list[Shape | None]]) -> Callable[[Node], list[Shape | None]]:
        for name in names.split():
            assert name not in RULES, name
            RULES[name] = Rule(inputs, outputs, function)
        return function

    return add


def is_known(shape: Shape) -> bool:
    """Whether all its sizes are numbers."""
    return not shape or min(shape) >= 0


def total(shape: Shape) -> int:
    """Elements of a shape; ANY where they are not known."""
    return math.prod(shape) if is_known(shape) else ANY
