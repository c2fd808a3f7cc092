"""`solve_ternary`: each layer whose weights have few levels, in order of execution, is solved to give what the float
network gives there.
"""

from __future__ import annotations

import functools
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_dbq import _checks, _progress
from keras_dbq._table import Table
from keras_dbq.calibration import RangeEstimator, observe_ranges
from keras_dbq.compat import keras
from keras_dbq.network import kernels
from keras_dbq.network.batch_norm import is_batch_norm
from keras_dbq.network.batches import Batches
from keras_dbq.network.graph import Graph, flat_copy
from keras_dbq.quantizers.base import WeightQuantizer
from keras_dbq.schemes import DBQScheme, FATScheme
from keras_dbq.schemes.application import wrapped
from keras_dbq.solving import one_layer, relaxed
from keras_dbq.solving.finished import Finished, digest
from keras_dbq.solving.walk import Walk
from keras_dbq.wrapping import naming, wrappers
from keras_dbq.wrapping.serialization import quantize_scope

# choice: for ternary weights of one branch, whose errors are large; with more levels passes gain nothing (measured).
_ONE_BRANCH_PASSES = 2


@dataclass
class Solved:
    """What `solve_ternary` did; prints as a table.

    errors: {layer: (before, after)}: relative squared error of the layer's output with the fitted and with the solved
      weights, on the quantized network's own inputs.
    left: {layer: why its codes were left as they were}; what its channels give was centred and scaled all the same.
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
    relu_passes: int | None = None,
    seed: int = 0,
    workdir: str | os.PathLike | None = None,
    progress: bool | None = None,
) -> Solved:
    """Gives layers of few levels the codes and scales with which they compute what the float network computes: ternary
    ones, and those of linear weights of up to 6 bits.

    derived: TSQ's second step (Wang et al., CVPR 2018) for any sum of ternary branches, and for linear weights. Layer
    by layer, with X the inputs from the layers already solved and Y the outputs of the float network, it minimises
    |X W_q - Y|^2 over codes and scales (`ops.coordinate_descent`), with a pull towards the float weights that is chosen
    on pictures left out. An offset per channel is free, because it goes into the batch norm behind the layer, or into
    its bias. So later layers correct what earlier ones do wrong; layers of 8 bits are solved, too, and not listed.

    Args:
      q_model: from `quantize_model` of `float_model` with a DBQScheme, or a FATScheme of few bits. Kernels, biases and
        batch norms get the float network's values first, whatever was done before; layers of few levels are then
        solved, ranges measured anew.
      float_model: the float network; or, for a TSQScheme, the trained model of step 1, whose ranges and codes are kept
        and whose weights are taken as they were before their rounding to 8 bits.
      data: pictures, as for `quantize_model`; about 1,000. Labels are not used.
      calibration: of the activation ranges, as for `quantize_model`.
      relu_passes: how often a layer with a ReLU behind it is solved again for outputs in which what the ReLU clips need
        not agree (`solving.relaxed`). Each pass takes half as long again; what it brings depends on the network.
      seed: of the positions in the pictures that are looked at.
      workdir: folder for the finished layers. The same call with it goes on after the last one that was finished, and
        ends with the same weights; None keeps nothing.
      progress: show bars; None: on a terminal.

    Returns:
      Solved: the error of every layer before and after.

    Raises:
      TypeError: not a model.  ValueError: not quantized; no layer of few levels; another network; bad data; a
        workdir of another run.
    """
    wrappers.check_quantized(q_model, "solve_ternary")
    seed = _checks.integer("seed", seed, 0, 2**31 - 1)
    if relu_passes is not None:
        _checks.integer("relu_passes", relu_passes, 0, 100)
    if not has_few_levels(q_model):
        raise ValueError(
            "solve_ternary: expected a model with ternary layers, got none, and none with weights of up to 6 bits; use "
            "a DBQScheme with branches, or FATScheme(bits=4)"
        )
    if take_over(q_model, float_model):
        calibration = ""
    return solve_in_place(
        q_model,
        data,
        calibration=calibration,
        relu_passes=relu_passes,
        seed=seed,
        workdir=workdir,
        progress=progress,
    )


def take_over(q_model: keras.Model, model: keras.Model) -> bool:
    """Gives a quantized model the float values of another one: kernels, biases, batch norms; ranges where it has some.

    Args:
      q_model: quantized.  model: the float network, or it quantized with the same activations (step 1 of TSQ).

    Returns:
      Whether `model` is quantized.

    Raises:
      ValueError: another network, or activations quantized otherwise.
    """
    step_1 = any(wrappers.quantized_output(layer) for layer in wrappers.all_layers(model))
    _take_float_values(q_model, [model] if step_1 else _twins(model))
    if step_1:
        _take_ranges(q_model, model)
    return step_1


def _twins(model: keras.Model) -> Iterator[keras.Model]:
    """The float network in the forms that a quantized one may have: with its batch norms, or with them folded."""
    for scheme in (DBQScheme, FATScheme):
        yield wrapped(flat_copy(model), scheme(on_unsupported="skip"))


def solve_in_place(
    q_model: keras.Model,
    data: Any,
    *,
    calibration: str | RangeEstimator = "max",
    relu_passes: int | None = None,
    seed: int = 0,
    workdir: str | os.PathLike | None = None,
    progress: bool | None = None,
) -> Solved:
    """`solve_ternary` of a model that is the float network as long as its quantizers are off.

    Args:
      calibration: "" keeps the ranges as they are, and the wanted outputs are those with quantized activations.
    """
    batches = data if isinstance(data, Batches) else Batches(data, q_model, progress=progress)
    finished = Finished(workdir, _run(q_model, batches.pictures, seed, relu_passes), "solve_ternary")
    if calibration:
        observe_ranges(q_model, batches, calibration, float_weights=True)
    with quantize_scope():
        teacher = keras.models.clone_model(q_model)
    teacher.set_weights(q_model.get_weights())
    with tempfile.TemporaryDirectory(prefix="keras_dbq_") as folder, _off(teacher, bool(calibration)):
        student, teacher_walk = Walk(q_model, batches, Path(folder) / "q"), Walk(teacher, batches, Path(folder) / "f")
        walks = _Walks(teacher_walk, student, batches.pictures, seed, relu_passes)
        result = _solve_layers(q_model, walks, finished, progress)
    if calibration:
        observe_ranges(q_model, batches, calibration)
    return result


def _run(q_model: keras.Model, pictures: int, seed: int, relu_passes: int | None) -> dict[str, Any]:
    """What a work folder belongs to."""
    layers = wrappers.all_layers(q_model)
    weights = digest(variable.numpy() for layer in layers for variable in _float_variables(layer))
    levels = {naming.plain_name(layer): _quantizer(layer).describe() for layer in layers if _is_solved(layer)}
    return {"weights": weights, "levels": levels, "pictures": pictures, "seed": seed, "relu_passes": relu_passes}


@dataclass(frozen=True)
class _Walks:
    """Both networks on their way, and how a layer is solved from them."""

    teacher: Walk
    student: Walk
    pictures: int
    seed: int
    relu_passes: int | None

    def solve(self, graph: Graph, position: int, norm: Any, left: bool) -> tuple[float, float]:
        """Solves one layer and sets it; (relative squared error before, after). `left`: only its offset."""
        node = graph.nodes[position]
        self.student.advance(position)
        self.teacher.advance(position)
        drawn = (node.layer, self.teacher, self.student, self.seed + position, self.pictures)
        parts = one_layer.measure(*drawn)
        if left:
            return one_layer.keep_codes(node.layer, norm, parts)
        columns, passes = one_layer.float_columns(node.layer, self.teacher), self._passes(node.layer)
        limits = relaxed.bounds(graph, node, norm, columns.shape[1]) if passes else None

        def again(solve_for: Any, start: Any, moments: Any) -> Any:
            assert limits is not None
            look = functools.partial(one_layer.seen, *drawn)
            return relaxed.solve(solve_for, start, moments, columns, limits, look, passes)

        return one_layer.solve_layer(node.layer, norm, parts, None if limits is None else again)

    def _passes(self, layer: keras.layers.Layer) -> int:
        if not _is_solved(layer):
            return 0
        if self.relu_passes is not None:
            return self.relu_passes
        return _ONE_BRANCH_PASSES if getattr(_quantizer(layer), "branches", 0) == 1 else 0


def _solve_layers(q_model: keras.Model, walks: _Walks, finished: Finished, progress: bool | None) -> Solved:
    graph, folded, result = Graph(q_model), naming.folds(q_model), Solved()
    wanted = [i for i, node in enumerate(graph.nodes) if _is_solved(node.layer) or _has_many_levels(node.layer, graph)]
    for position in _progress.over(wanted, f"two-step: {len(wanted)} layers", "layer", progress):
        layer = graph.nodes[position].layer
        name, norm = naming.plain_name(layer), folded.get(id(layer))
        why = _why_left(layer, graph)
        if name in result.left:
            continue  # another call of it
        errors = _taken_over(one_layer.variables(layer, norm), finished.load(position))
        if errors is None:
            errors = walks.solve(graph, position, norm, bool(why))
            finished.save(position, [errors, *(v.numpy() for v in one_layer.variables(layer, norm))])
        if _is_solved(layer) and why:
            result.left[name] = why
        elif _is_solved(layer):
            result.errors[name] = errors
    return result


def _taken_over(variables: list[Any], stored: list[Any] | None) -> tuple[float, float] | None:
    """Sets a layer that was finished before; its errors, or None where it was not."""
    if stored is None:
        return None
    for variable, value in zip(variables, stored[1:], strict=True):
        variable.assign(value)
    return float(stored[0][0]), float(stored[0][1])


def _take_float_values(q_model: keras.Model, twins: Iterable[keras.Model]) -> None:
    """Kernels, biases and batch norms of the first twin that has the same, layer by layer."""
    own, differing = _by_name(q_model), ""
    for twin in twins:
        theirs = _by_name(twin)
        shapes = [{name: [v.shape for v in found] for name, found in side.items()} for side in (own, theirs)]
        differ = [name for name in own | theirs if shapes[0].get(name) != shapes[1].get(name)]
        if not differ:
            for name, variables in own.items():
                for variable, value in zip(variables, theirs[name], strict=True):
                    variable.assign(value)
            return
        differing = differing or differ[0]
    raise ValueError(
        "solve_ternary: expected the float network that the quantized model was made of, got one whose layer "
        f"{differing!r} differs"
    )


def _by_name(model: keras.Model) -> dict[str, list[Any]]:
    """The float variables of each layer that has some."""
    found = {naming.plain_name(layer): list(_float_variables(layer)) for layer in wrappers.all_layers(model)}
    return {name: variables for name, variables in found.items() if variables}


def _take_ranges(q_model: keras.Model, step_1: keras.Model) -> None:
    """Ranges and codes of every activation, by the names of the layers."""
    theirs = {layer.name: wrappers.quantized_output(layer) for layer in wrappers.all_layers(step_1)}
    for layer in wrappers.all_layers(q_model):
        own, other = wrappers.quantized_output(layer), theirs.get(layer.name)
        if own is None:
            continue
        if other is None or other.quantizer.get_config() != own.quantizer.get_config():
            raise ValueError(
                f"solve_ternary: layer {naming.plain_name(layer)!r}: expected an activation quantized as in step 1, "
                "got another quantizer; use the same scheme, but for branches, in both steps"
            )
        for name, variable in own.variables.items():
            variable.assign(other.variables[name])


def _float_variables(layer: keras.layers.Layer) -> Iterator[Any]:
    """A layer's kernel, bias, or the variables of a batch norm."""
    inner = wrappers.inner(layer)
    if is_batch_norm(inner):
        yield from (v for v in (inner.gamma, inner.beta, inner.moving_mean, inner.moving_variance) if v is not None)
    yield from (weight.variable for weight in wrappers.quantized_weights(layer))
    bias = wrappers.bias(layer)
    if bias is not None:
        yield bias


def has_few_levels(q_model: keras.Model) -> bool:
    """Whether any layer of a quantized model has ternary weights, or linear ones of few bits."""
    return any(_is_solved(layer) for layer in wrappers.all_layers(q_model))


def is_solvable(q_model: keras.Model) -> bool:
    """Whether any layer of a quantized model has weights of ours."""
    return any(isinstance(_quantizer(layer), WeightQuantizer) for layer in wrappers.all_layers(q_model))


def _is_solved(layer: keras.layers.Layer) -> bool:
    """Whether a layer is solved, or at least centred and scaled (`_why_left`)."""
    quantizer = _quantizer(layer)
    return bool(getattr(quantizer, "branches", 0) or getattr(quantizer, "few_levels", False))


def _has_many_levels(layer: keras.layers.Layer, graph: Graph) -> bool:
    """Whether it is a layer of 7 or 8 bits that is looked at: called once, its inputs few enough for a matrix."""
    if not isinstance(_quantizer(layer), WeightQuantizer) or _is_solved(layer):
        return False
    shape = wrappers.quantized_weights(layer)[0].variable.shape
    inputs = math.prod(shape) // kernels.channels(wrappers.inner(layer), shape)
    return inputs <= one_layer.LARGEST and len(graph.calls(layer)) == 1


def _quantizer(layer: keras.layers.Layer) -> Any:
    """Of the layer's kernel, or None."""
    weights = wrappers.quantized_weights(layer)
    return weights[0].quantizer if weights else None


def _off(model: keras.Model, activations: bool) -> Any:
    return wrappers.quantizer_flags(model, weights_bypass=True, activations_bypass=activations)


def _why_left(layer: keras.layers.Layer, graph: Graph) -> str:
    if len(graph.calls(layer)) > 1:
        return "called several times"
    if not _is_solved(layer):
        each = _quantizer(layer).per_channel or kernels.mixes_channels(wrappers.inner(layer))
        return "" if each else "one scale for all channels"
    if _quantizer(layer).levels is None:
        return "its weights follow a rule"
    if not _quantizer(layer).per_channel:
        return "one scale for all channels"
    return ""
