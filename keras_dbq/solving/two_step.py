"""`solve_ternary`: each ternary layer, in order of execution, is solved to give what the float network gives there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_dbq import _checks, _progress
from keras_dbq._table import Table
from keras_dbq.calibration import RangeEstimator, observe_ranges
from keras_dbq.compat import keras
from keras_dbq.network import kernels
from keras_dbq.network.batch_norm import is_batch_norm
from keras_dbq.network.batches import Batches
from keras_dbq.network.graph import Graph, flat_copy
from keras_dbq.ops import coordinate_descent
from keras_dbq.schemes import DBQScheme
from keras_dbq.schemes.application import wrapped
from keras_dbq.solving.moments import Moments, patches, positions
from keras_dbq.solving.walk import Walk
from keras_dbq.wrapping import naming, wrappers
from keras_dbq.wrapping.serialization import quantize_scope

# choice: so many output positions of a layer are looked at, drawn evenly from all pictures.
_POSITIONS = 64_000
# choice: a pull of the solution towards the float weights, in units of the inputs' mean power.
_RIDGE = 1e-4


@dataclass
class Solved:
    """What `solve_ternary` did; prints as a table.

    errors: {layer: (before, after)}: relative squared error of the layer's output with the fitted and with the solved
      weights, on the quantized network's own inputs.
    left: {layer: why it was left as it was}.
    """

    errors: dict[str, tuple[float, float]] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        table = Table(["layer", "error before", "error after", "note"])
        for name, (before, after) in self.errors.items():
            table.add(name, f"{before:.4f}", f"{after:.4f}", "")
        for name, why in self.left.items():
            table.add(name, "-", "-", why)
        return str(table)


def solve_ternary(
    q_model: keras.Model,
    float_model: keras.Model,
    data: Any,
    *,
    calibration: str | RangeEstimator = "max",
    seed: int = 0,
    progress: bool | None = None,
) -> Solved:
    """Gives ternary layers the codes and scales with which they compute what the float network computes.

    derived: TSQ's second step (Wang et al., CVPR 2018) for any sum of ternary branches. Layer by layer, with X the
    inputs from the layers already solved and Y the outputs of the float network, it minimises |X W_q - Y|^2 over codes
    and scales (`ops.coordinate_descent`). An offset per channel is free, because it goes into the batch norm behind the
    layer, or into its bias. So later layers correct what earlier ones do wrong.

    Args:
      q_model: from `quantize_model` of `float_model` with a DBQScheme. Kernels, biases and batch norms get the float
        network's values first, whatever was done before; ternary layers are then solved, ranges measured anew.
      float_model: the float network.
      data: pictures, as for `quantize_model`; about 1,000. Labels are not used.
      calibration: of the activation ranges, as for `quantize_model`.
      seed: of the positions in the pictures that are looked at.
      progress: show bars; None: on a terminal.

    Returns:
      Solved: the error of every layer before and after.

    Raises:
      TypeError: not a model.  ValueError: not quantized; no ternary layer; another network; bad data.
    """
    wrappers.check_quantized(q_model, "solve_ternary")
    seed = _checks.integer("seed", seed, 0, 2**31 - 1)
    if not any(_branches(layer) for layer in wrappers.all_layers(q_model)):
        raise ValueError("solve_ternary: expected a model with ternary layers, got none; use a DBQScheme with branches")
    twin = wrapped(flat_copy(float_model), DBQScheme(on_unsupported="skip"))
    _take_float_values(q_model, twin)
    return solve_in_place(q_model, data, calibration=calibration, seed=seed, progress=progress)


def solve_in_place(
    q_model: keras.Model,
    data: Any,
    *,
    calibration: str | RangeEstimator = "max",
    seed: int = 0,
    progress: bool | None = None,
) -> Solved:
    """`solve_ternary` of a model that is the float network as long as its quantizers are off."""
    batches = data if isinstance(data, Batches) else Batches(data, q_model, progress=progress)
    observe_ranges(q_model, batches, calibration, float_weights=True)
    with quantize_scope():
        teacher = keras.models.clone_model(q_model)
    teacher.set_weights(q_model.get_weights())
    with tempfile.TemporaryDirectory(prefix="keras_dbq_") as folder, _off(teacher):
        student, teacher_walk = Walk(q_model, batches, Path(folder) / "q"), Walk(teacher, batches, Path(folder) / "f")
        result = _solve_layers(q_model, student, teacher_walk, batches.pictures, seed, progress)
    observe_ranges(q_model, batches, calibration)
    return result


def _solve_layers(
    q_model: keras.Model, student: Walk, teacher: Walk, pictures: int, seed: int, progress: bool | None
) -> Solved:
    graph, folded, result = Graph(q_model), naming.folds(q_model), Solved()
    wanted = [position for position, node in enumerate(graph.nodes) if _branches(node.layer)]
    for position in _progress.over(wanted, f"two-step: {len(wanted)} ternary layers", "layer", progress):
        layer = graph.nodes[position].layer
        name, why = naming.plain_name(layer), _why_left(layer, graph)
        if why:
            result.left[name] = why
            continue
        student.advance(position)
        teacher.advance(position)
        moments = _moments(layer, teacher, student, seed + position, pictures)
        result.errors[name] = _solve_layer(layer, folded.get(id(layer)), moments)
    return result


def _take_float_values(q_model: keras.Model, twin: keras.Model) -> None:
    """Kernels, biases and batch norms of the twin, layer by layer."""
    theirs = {naming.plain_name(layer): layer for layer in wrappers.all_layers(twin)}
    for layer in wrappers.all_layers(q_model):
        name = naming.plain_name(layer)
        own = list(_float_variables(layer))
        other = list(_float_variables(theirs[name])) if name in theirs else []
        if [v.shape for v in own] != [v.shape for v in other]:
            raise ValueError(
                "solve_ternary: expected the float network that the quantized model was made of, got one whose layer "
                f"{name!r} differs"
            )
        for variable, value in zip(own, other, strict=True):
            variable.assign(value)


def _float_variables(layer: keras.layers.Layer) -> Iterator[Any]:
    """A layer's kernel, bias, or the variables of a batch norm."""
    inner = wrappers.inner(layer)
    if is_batch_norm(inner):
        yield from (v for v in (inner.gamma, inner.beta, inner.moving_mean, inner.moving_variance) if v is not None)
    yield from (weight.variable for weight in wrappers.quantized_weights(layer))
    bias = wrappers.bias(layer)
    if bias is not None:
        yield bias


def _branches(layer: keras.layers.Layer) -> int:
    weights = wrappers.quantized_weights(layer)
    return getattr(weights[0].quantizer, "branches", 0) if weights else 0


def _off(model: keras.Model) -> Any:
    return wrappers.quantizer_flags(model, weights_bypass=True, activations_bypass=True)


def _why_left(layer: keras.layers.Layer, graph: Graph) -> str:
    if len(graph.calls(layer)) > 1:
        return "called several times"
    if not kernels.mixes_channels(wrappers.inner(layer)):
        return "depthwise or grouped"
    if not wrappers.quantized_weights(layer)[0].quantizer.per_channel:
        return "one scale for all channels"
    return ""


def _moments(layer: Any, teacher: Walk, student: Walk, seed: int, pictures: int) -> Moments:
    """Moments of the layer's inputs in the quantized network and its float outputs, at positions drawn at random."""
    inner = wrappers.inner(layer)
    kernel = teacher.nodes[teacher.position].layer
    w = kernels.columns(inner, wrappers.quantized_weights(kernel)[0].variable.numpy()).astype(np.float64)
    total, rng = Moments.zeros(*w.shape), np.random.default_rng(seed)
    for clean, noisy in zip(teacher.inputs(), student.inputs(), strict=True):
        picked = _drawn(positions(inner, noisy), _POSITIONS * len(noisy) // pictures, rng)
        total.add(patches(inner, noisy, picked), patches(inner, clean, picked).astype(np.float64) @ w)
    return total


def _drawn(count: int, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """`wanted` of `count` positions, at least one, in ascending order."""
    wanted = min(count, max(1, wanted))
    return np.sort(rng.choice(count, wanted, replace=False)) if wanted < count else np.arange(count)


def _solve_layer(layer: Any, norm: Any, moments: Moments) -> tuple[float, float]:
    """Solves a layer and sets it; (relative squared error before, after)."""
    weight = wrappers.quantized_weights(layer)[0]
    columns = weight.quantizer.columns
    w = np.asarray(columns(weight.variable.numpy()), np.float64)
    centred = norm is not None or wrappers.bias(layer) is not None
    gram, cross, power = moments.centred(centred)
    before = np.asarray(columns(weight.quantizer(weight.variable, False, weight.variables).numpy()), np.float64)
    ridge = _RIDGE * max(np.trace(gram) / len(gram), np.finfo(np.float64).tiny)
    pulled = gram + ridge * np.eye(len(gram)), cross + ridge * w
    solution = coordinate_descent.solve(*pulled, w, weight.quantizer.branches)
    weight.quantizer.assign(weight.variable, weight.variables, solution.codes, solution.scales)
    after = np.asarray(columns(weight.quantizer(weight.variable, False, weight.variables).numpy()), np.float64)
    _match_offset(layer, norm, moments, after)
    total = max(power.sum(), np.finfo(np.float64).tiny)
    errors = [(coordinate_descent.cost(gram, cross, q).sum() + power.sum()) / total for q in (before, after)]
    return float(errors[0]), float(errors[1])


def _match_offset(layer: Any, norm: Any, moments: Moments, w: np.ndarray) -> None:
    """The layer's own offset: statistics of the batch norm behind it, or its bias."""
    bias = wrappers.bias(layer)
    mean = moments.x / moments.count @ w
    if norm is not None:
        own = 0 if bias is None else bias.numpy()
        gram, _, _ = moments.centred(True)
        inner = wrappers.inner(norm)
        inner.moving_mean.assign((mean + own).astype(np.float32))
        inner.moving_variance.assign((w * (gram @ w)).sum(0).astype(np.float32))
    elif bias is not None:
        bias.assign_add((moments.y / moments.count - mean).astype(np.float32))
