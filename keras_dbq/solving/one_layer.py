"""One ternary layer: its moments from the data, then codes, scales and the offset behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_dbq.network import batch_norm, kernels
from keras_dbq.ops import coordinate_descent
from keras_dbq.solving.moments import Moments, by_group, patches, positions
from keras_dbq.solving.walk import Walk
from keras_dbq.wrapping import wrappers

# choice: so many output positions of a layer are looked at, drawn evenly from all pictures.
_POSITIONS = 64_000
# choice: a pull of the solution towards the float weights, in units of the inputs' mean power.
_RIDGE = 1e-4


def measure(layer: Any, teacher: Walk, student: Walk, seed: int, pictures: int) -> list[Moments]:
    """Moments of the layer's inputs in the quantized network and its float outputs, at positions drawn at random.

    Returns:
      One for each group of channels with inputs of their own: one in all, or one per channel of a depthwise layer.
    """
    columns = float_columns(layer, teacher)
    total: list[Moments] = []
    for noisy, clean in seen(layer, teacher, student, seed, pictures):
        parts = np.split(columns, len(noisy), 1)
        total = total or [Moments.zeros(*part.shape) for part in parts]
        for moments, x, wanted, w in zip(total, noisy, clean, parts, strict=True):
            moments.add(x, wanted.astype(np.float64) @ w)
    return total


def float_columns(layer: Any, teacher: Walk) -> np.ndarray:
    """The kernel of the float network, float64 [K, M]."""
    kernel = wrappers.quantized_weights(teacher.nodes[teacher.position].layer)[0].variable.numpy()
    return np.asarray(kernels.columns(wrappers.inner(layer), kernel), np.float64)


def seen(layer: Any, teacher: Walk, student: Walk, seed: int, pictures: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What the kernel sees at positions drawn at random: [groups, P, K] in the quantized network, in the float one."""
    inner, rng = wrappers.inner(layer), np.random.default_rng(seed)
    for clean, noisy in zip(teacher.inputs(), student.inputs(), strict=True):
        picked = _drawn(positions(inner, noisy), _POSITIONS * len(noisy) // pictures, rng)
        own, wanted = (by_group(inner, patches(inner, x, picked), noisy.shape[-1]) for x in (noisy, clean))
        yield own, wanted


def _drawn(count: int, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """`wanted` of `count` positions, at least one, in ascending order."""
    wanted = min(count, max(1, wanted))
    return np.sort(rng.choice(count, wanted, replace=False)) if wanted < count else np.arange(count)


def solve_layer(layer: Any, norm: Any, groups_: list[Moments], again: Any = None) -> tuple[float, float]:
    """Solves a layer and sets it; (relative squared error before, after).

    Args:
      layer: a wrapper with a ternary kernel.  norm: the batch norm that folds into it, or None.
      groups_: of `measure`.
      again: (solve_group, solution) -> a better one (`relaxed.solve`), or None.
    """
    centre = norm is not None or wrappers.bias(layer) is not None
    weight = wrappers.quantized_weights(layer)[0]
    w = np.asarray(weight.quantizer.columns(weight.variable.numpy()), np.float64)
    before = weight.quantized_columns()
    solutions = [
        _solve(moments, part, weight.quantizer.branches, centre)
        for moments, part in zip(groups_, np.split(w, len(groups_), 1), strict=True)
    ]
    solution = coordinate_descent.Solution(*(np.concatenate(part, -1) for part in zip(*solutions, strict=True)))
    if again is not None:
        solution = again(lambda m, start: _solve(m, start, weight.quantizer.branches, centre), solution)
    weight.quantizer.assign(weight.variable, weight.variables, solution.codes, solution.scales)
    after = weight.quantized_columns()
    _match_offset(layer, norm, groups_, np.split(after, len(groups_), 1))
    return _error(groups_, before, centre), _error(groups_, after, centre)


def keep_codes(layer: Any, norm: Any, groups_: list[Moments]) -> tuple[float, float]:
    """Leaves a layer's weights and sets the offset behind them; (relative squared error) twice, see `solve_layer`.

    A layer that is called several times is looked at where it is called first.
    """
    centre = norm is not None or wrappers.bias(layer) is not None
    weight = wrappers.quantized_weights(layer)[0]
    kernel = weight.quantizer(weight.variable, False, weight.variables).numpy()
    columns = np.asarray(kernels.columns(wrappers.inner(layer), kernel), np.float64)
    _match_offset(layer, norm, groups_, np.split(columns, len(groups_), 1))
    error = _error(groups_, columns, centre)
    return error, error


def _solve(moments: Moments, w: np.ndarray, branches: int, centre: bool) -> coordinate_descent.Solution:
    gram, cross, _ = moments.centred(centre)
    ridge = _RIDGE * (np.trace(gram) / len(gram) or 1.0)  # inputs that never change leave the float weights
    return coordinate_descent.solve(gram + ridge * np.eye(len(gram)), cross + ridge * w, w, branches)


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
