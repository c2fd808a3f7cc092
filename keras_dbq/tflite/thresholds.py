"""A packed layer and the table of few codes behind it, as one operator: thresholds on the accumulator.

derived: requantization is y = clamp(z + rne(float32(acc) * r)), each step of which never falls as acc grows (r > 0).
Where the table never falls either, its code of y is the lowest code plus the number of its steps that acc has reached,
and each step has one smallest acc, channel by channel. So nothing is rounded twice, and every code stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_dbq.limits import BIAS_LIMIT, bias_room
from keras_dbq.reference.rounding import activation_range, requantize_float
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.params import MOST_THRESHOLDS, Params

# No accumulator reaches it (docs/packing.md): a step that the channel never takes.
NEVER = BIAS_LIMIT
# Every accumulator has reached it.
ALWAYS = -BIAS_LIMIT - 1
_CODES = np.arange(-128, 128)


@dataclass(frozen=True)
class Table:
    """CAST, CAST, GATHER behind a tensor that nothing else reads.

    operators: the indices of the three.  output: the tensor of the codes.
    codes: int8 [256], the code of code c at c modulo 256.
    """

    operators: tuple[int, int, int]
    output: int
    codes: np.ndarray


def tables_behind(model: Any) -> dict[int, Table]:
    """{tensor that only a table reads: the table}, of the model's only subgraph."""
    graph = model.subgraphs[0]
    readers: dict[int, list[int]] = {}
    for index, operator in enumerate(graph.operators):
        for tensor in operator.inputs:
            readers.setdefault(int(tensor), []).append(index)
    kept = {int(tensor) for tensor in graph.outputs}

    def only_reader(tensor: int, name: str) -> int | None:
        """The one operator that reads a hidden tensor, where it has this name."""
        found = readers.get(tensor, [])
        fits = len(found) == 1 and tensor not in kept and fb.op_name(model, graph.operators[found[0]]) == name
        return found[0] if fits else None

    return dict(_tables(model, only_reader))


def _tables(model: Any, only_reader: Any) -> Iterator[tuple[int, Table]]:
    graph, types = model.subgraphs[0], fb.schema.TensorType
    for first, operator in enumerate(graph.operators):
        if fb.op_name(model, operator) != "CAST" or only_reader(int(operator.inputs[0]), "CAST") is None:
            continue
        second = only_reader(int(operator.outputs[0]), "CAST")
        gather = None if second is None else only_reader(int(graph.operators[second].outputs[0]), "GATHER")
        if second is None or gather is None:
            continue
        passed = [graph.tensors[int(graph.operators[i].outputs[0])].type for i in (first, second)]
        codes = _table_codes(model, graph.operators[gather])
        if passed == [types.UINT8, types.INT32] and codes is not None:
            output = int(graph.operators[gather].outputs[0])
            yield int(operator.inputs[0]), Table((first, second, gather), output, codes)


def _table_codes(model: Any, gather: Any) -> np.ndarray | None:
    """int8 [256], or None where the operator looks up something else."""
    table, options = int(gather.inputs[0]), gather.builtinOptions
    plain = options is not None and options.axis == 0 and not getattr(options, "batchDims", 0)
    if not plain or not fb.is_constant(model, table):
        return None
    codes = fb.constant(model, table)
    return codes if codes.dtype == np.int8 and codes.shape == (256,) else None


def count_thresholds(
    codes: np.ndarray, scales: np.ndarray, bias: np.ndarray, params: Params, length: int
) -> tuple[np.ndarray, int] | None:
    """What a layer and the table behind it become.

    Args:
      codes: int8 [256], see `Table`.  scales: float32 [2 + M], params: of the layer before the table.
      bias: int32 [M].  length: of a dot product.

    Returns:
      (thresholds int32 [n, M], lowest code), or None where the table falls somewhere, has more than 15 steps or none,
      or where a sum could reach the number that means "never".
    """
    low, high = _bounds(scales, params)
    reached = codes[np.arange(low, high + 1) % 256].astype(np.int64)
    steps = int(reached[-1] - reached[0])
    if (np.diff(reached) < 0).any() or not 1 <= steps <= MOST_THRESHOLDS:
        return None
    if int(np.abs(bias.astype(np.int64)).max(initial=0)) >= bias_room(length):
        return None
    first = low + np.array([int(np.argmax(reached >= reached[0] + step)) for step in range(1, steps + 1)])
    return _smallest_accumulators(first, scales, params), int(reached[0])


def _bounds(scales: np.ndarray, params: Params) -> tuple[int, int]:
    return activation_range(params.activation, scales[1], params.output_zero_point, "xnnpack", -128, 127)


def _requantized(accumulator: np.ndarray, scales: np.ndarray, params: Params) -> np.ndarray:
    """int8 codes of exact int64 accumulators, channels last."""
    multiplier = scales[0] * scales[2:] / scales[1]  # float32, in this order
    return requantize_float(accumulator, multiplier, params.output_zero_point, *_bounds(scales, params))


def _smallest_accumulators(wanted: np.ndarray, scales: np.ndarray, params: Params) -> np.ndarray:
    """int32 [n, M]: the smallest accumulator whose code is at least wanted[j], by bisection of all int32."""
    below = np.full((len(wanted), len(scales) - 2), ALWAYS - 1, np.int64)  # not reached
    above = np.full_like(below, NEVER)
    while (above - below > 1).any():
        middle = (below + above) // 2
        reached = _requantized(middle, scales, params) >= wanted[:, None]
        below, above = np.where(reached, below, middle), np.where(reached, middle, above)
    return above.astype(np.int32)


def table_of(thresholds: np.ndarray, lowest_code: int, scales: np.ndarray, params: Params) -> np.ndarray:
    """int8 [256]: the table behind the layer's requantization that gives the codes of these thresholds.

    Raises:
      ValueError: there is none: a step lies at different codes in different channels.
    """
    wide = thresholds.astype(np.int64)
    low, _ = _bounds(scales, params)
    # Each step lies above the code of the largest sum that has not reached it, at most at that of the first that has.
    least = np.where(wide == ALWAYS, -129, _requantized(np.maximum(wide - 1, ALWAYS), scales, params).astype(np.int64))
    most = np.where(wide == NEVER, 128, _requantized(wide, scales, params).astype(np.int64))
    first, last = least.max(1) + 1, most.min(1)
    if (first > last).any():
        step = int(np.argmax(first > last))
        raise ValueError(
            f"thresholds: expected those of one table behind a grid of scale {scales[1]:g}, got step {step + 1} at "
            f"different codes in different channels; no int8 file computes that"
        )
    codes = lowest_code + (_CODES[:, None] >= np.maximum(last, low)).sum(1)
    return np.roll(codes.astype(np.int8), 128)
