"""One layer: its moments from the data, then codes, scales and the offset behind it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from keras_dbq.network import batch_norm, kernels
from keras_dbq.network.moments import Moments, by_group, drawn, patches
from keras_dbq.ops import coordinate_descent
from keras_dbq.solving.walk import Walk
from keras_dbq.wrapping import wrappers

# choice: how strongly a solution may be pulled towards the float weights, in units of the inputs' mean power. The
# errors of the layers before are other ones on other pictures, and a layer of many inputs would learn by heart those of
# its pictures.
_RIDGES = 1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0
_NEVER = 1e-6  # choice: share of the mean of their squares; inputs of less variance are constant to an 8-bit grid
_UNKNOWN = 0.1  # choice: where there is but one part of the pictures
# choice: parts of the pictures, what is solved on all but one of them is looked at on that one; fewer where their
# matrices would hold more numbers than that (800 MB).
_PARTS, _NUMBERS = 4, 1e8
# choice: inputs of a layer of 8 bits, which gains less than its matrix costs from there on (512 MB).
LARGEST = 8192
# choice: what a layer of 8 bits gains falls with its size, and what it takes rises: products of one sweep over its
# weights from which on descent ends after a round, and from which on its weights are only rounded.
_BRIEFLY, _NOT_AT_ALL = 1e8, 4e9


Parts = list[list[Moments]]  # [parts of the pictures][groups of channels with inputs of their own]


def measure(layer: Any, teacher: Walk, student: Walk, seed: int, pictures: int) -> Parts:
    """Moments of the layer's inputs in the quantized network and its float outputs, at positions drawn at random.

    A layer is one group, a depthwise one has a group for each channel.
    """
    columns = float_columns(layer, teacher)
    parts: Parts = []
    for number, (noisy, clean) in enumerate(seen(layer, teacher, student, seed, pictures)):
        weights = np.split(columns, len(noisy), 1)
        if len(parts) < max(1, min(_PARTS, _NUMBERS // (len(noisy) * len(columns) ** 2))):
            parts.append([Moments.zeros(*w.shape) for w in weights])
        for moments, x, wanted, w in zip(parts[number % len(parts)], noisy, clean, weights, strict=True):
            moments.add(x, wanted.astype(np.float64) @ w)
    return parts


def joined(parts: Parts) -> list[Moments]:
    """Of all pictures, one for each group."""
    return [sum(group[1:], group[0]) for group in zip(*parts, strict=True)]


def _best_ridge(parts: Parts, columns: list[np.ndarray], centre: bool) -> float:
    """With which the weights of least cost on all but one part of the pictures cost least on that one, levels aside."""
    if len(parts) < 2:
        return _UNKNOWN
    costs = np.zeros(len(_RIDGES))
    for part in parts:
        for number, w in enumerate(columns):
            gram, cross, _ = part[number].centred(centre)
            others = [other[number] for other in parts if other is not part]
            learnt = _pull(sum(others[1:], others[0]), centre, w)
            for place, ridge in enumerate(_RIDGES):
                free = np.linalg.solve(*learnt(ridge))
                costs[place] += part[number].count * coordinate_descent.cost(gram, cross, free).sum()
    return _RIDGES[int(np.argmin(costs))]


def _pull(moments: Moments, centre: bool, w: np.ndarray) -> Callable[[float], tuple[np.ndarray, np.ndarray]]:
    """ridge -> (G, b) with that pull towards w."""
    gram, cross, _ = moments.centred(centre)
    # Inputs that never change leave the float weights.
    power = max(np.trace(gram), _NEVER * np.trace(moments.xx) / moments.count) / len(gram) or 1.0
    diagonal = np.diag(gram).copy()

    def pulled(ridge: float) -> tuple[np.ndarray, np.ndarray]:
        result = gram.copy()
        np.fill_diagonal(result, diagonal + ridge * power)
        return result, cross + ridge * power * w

    return pulled


def float_columns(layer: Any, teacher: Walk) -> np.ndarray:
    """The kernel of the float network, float64 [K, M]."""
    kernel = wrappers.quantized_weights(teacher.nodes[teacher.position].layer)[0].variable.numpy()
    return np.asarray(kernels.columns(wrappers.inner(layer), kernel), np.float64)


def seen(layer: Any, teacher: Walk, student: Walk, seed: int, pictures: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What the kernel sees at positions drawn at random: [groups, P, K] in the quantized network, in the float one."""
    inner, rng = wrappers.inner(layer), np.random.default_rng(seed)
    for clean, noisy in zip(teacher.inputs(), student.inputs(), strict=True):
        picked = drawn(inner, noisy, pictures, rng)
        own, wanted = (by_group(inner, patches(inner, x, picked), noisy.shape[-1]) for x in (noisy, clean))
        yield own, wanted


def solve_layer(layer: Any, norm: Any, parts: Parts, again: Any = None) -> tuple[float, float]:
    """Solves a layer and sets it; (relative squared error before, after).

    Args:
      layer: a wrapper.  norm: the batch norm that folds into it, or None.
      parts: of `measure`.
      again: (solve, solution, moments) -> a better one (`relaxed.solve`), or None.
    """
    groups_, centre = joined(parts), _is_centred(layer, norm)
    weight = wrappers.quantized_weights(layer)[0]
    w = np.asarray(kernels.columns(wrappers.inner(layer), weight.variable.numpy()), np.float64)
    before, columns = _quantized_columns(layer), np.split(w, len(groups_), 1)
    ridge = _best_ridge(parts, columns, centre)
    inputs, outputs = columns[0].shape
    options: dict[str, Any] = {"tries": coordinate_descent.tries(inputs, outputs, len(groups_))}
    levels, operations = weight.quantizer.levels, inputs**2 * outputs * len(groups_)
    if not weight.quantizer.few_levels:
        if operations > _BRIEFLY:
            options["rounds"] = 1
        # Then the weights of least cost are rounded, each by itself.
        if operations > _NOT_AT_ALL or not weight.quantizer.per_channel:
            levels = None

    def solve(groups_: list[Moments], ridge: float) -> coordinate_descent.Solution:
        assert levels is not None
        solved = []
        for moments, part in zip(groups_, columns, strict=True):
            pulled = _pull(moments, centre, part)
            solution = coordinate_descent.solve(*pulled(ridge), part, levels, **options)
            # Few numbers, so they need no pull.
            solved.append(coordinate_descent.rescaled(*pulled(_RIDGES[0]), solution, levels))
        return coordinate_descent.Solution(*(np.concatenate(part, -1) for part in zip(*solved, strict=True)))

    if levels is None:
        free = [np.linalg.solve(*_pull(m, centre, part)(ridge)) for m, part in zip(groups_, columns, strict=True)]
        weight.variable.assign(np.concatenate(free, 1).astype(np.float32).reshape(weight.variable.shape))
    else:
        solution = solve(groups_, ridge)
        if ridge > _RIDGES[0] and _error(groups_, solution.weights, centre) > _error(groups_, before, centre):
            ridge = _RIDGES[0]
            solution = solve(groups_, ridge)
        if again is not None:
            solution = again(functools.partial(solve, ridge=ridge), solution, groups_)
        weight.quantizer.assign(weight.variable, weight.variables, solution.codes, solution.scales)
    after = _quantized_columns(layer)
    _match_offset(layer, norm, groups_, np.split(after, len(groups_), 1))
    return _error(groups_, before, centre), _error(groups_, after, centre)


def keep_codes(layer: Any, norm: Any, parts: Parts) -> tuple[float, float]:
    """Leaves a layer's weights and sets the offset behind them; (relative squared error) twice, see `solve_layer`.

    A layer that is called several times is looked at where it is called first.
    """
    groups_, columns = joined(parts), _quantized_columns(layer)
    _match_offset(layer, norm, groups_, np.split(columns, len(groups_), 1))
    error = _error(groups_, columns, _is_centred(layer, norm))
    return error, error


def _quantized_columns(layer: Any) -> np.ndarray:
    """The kernel that a layer computes with, float64 [K, M]; each output channel is one, whatever shares a scale."""
    weight = wrappers.quantized_weights(layer)[0]
    return weight.quantized_columns().reshape(-1, kernels.channels(wrappers.inner(layer), weight.variable.shape))


def _is_centred(layer: Any, norm: Any) -> bool:
    """Whether an offset per channel is free behind a layer."""
    return norm is not None or wrappers.bias(layer) is not None


def _error(groups_: list[Moments], columns: np.ndarray, centre: bool) -> float:
    """|X W - Y|^2 / |Y|^2 of all groups."""
    error = total = 0.0
    for moments, w in zip(groups_, np.split(columns, len(groups_), 1), strict=True):
        gram, cross, power = moments.centred(centre)
        error += float(coordinate_descent.cost(gram, cross, w).sum() + power.sum())
        total += float(power.sum())
    return max(error, 0.0) / max(total, np.finfo(np.float64).tiny)


def _match_offset(layer: Any, norm: Any, groups_: list[Moments], columns: list[np.ndarray]) -> None:
    """The layer's own offset: statistics of the batch norm behind it, or its bias."""
    bias = wrappers.bias(layer)
    mean = np.concatenate([m.x / m.count @ w for m, w in zip(groups_, columns, strict=True)])
    wanted = np.concatenate([m.y / m.count for m in groups_])
    if norm is not None:
        centred = [m.centred(True) for m in groups_]
        variance = np.concatenate([(w * (c[0] @ w)).sum(0) for c, w in zip(centred, columns, strict=True)])
        power = np.concatenate([c[2] for c in centred])
        shift = 0 if bias is None else bias.numpy()
        inner = wrappers.inner(norm)
        batch_norm.keep_output_moments(inner, (mean + shift, variance), (wanted + shift, power), inner)
    elif bias is not None:
        bias.assign_add((wanted - mean).astype(np.float32))


def variables(layer: Any, norm: Any) -> list[Any]:
    """What `solve_layer` sets, or may set: all that a finished layer is made of."""
    weight, bias = wrappers.quantized_weights(layer)[0], wrappers.bias(layer)
    found = [weight.variable, *(weight.variables[name] for name in sorted(weight.variables))]
    if norm is not None:
        inner = wrappers.inner(norm)
        found += [inner.moving_mean, inner.moving_variance]
    return found if bias is None else [*found, bias]
