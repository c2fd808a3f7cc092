"""Linear bottlenecks in another basis, in which the weights around them are nearer to few levels.

The network computes what it computed: the layers that make a bottleneck make A times its channels, those that read it
undo that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_dbq import _checks, _progress
from keras_dbq._table import Table
from keras_dbq.compat import check_keras_model, keras, tf
from keras_dbq.network import kernels, moments
from keras_dbq.network.batches import Batches
from keras_dbq.network.chains import Chains
from keras_dbq.network.graph import Graph, inputs, output
from keras_dbq.network.linear_spaces import Space, linear_spaces
from keras_dbq.ops import basis
from keras_dbq.ops.weight_levels import TernaryLevels
from keras_dbq.prepare.folding import fold_batch_norms
from keras_dbq.prepare.result import Prepared

_PICTURES = 10  # choice: that are looked at together, because all layers' inputs are held at once
_LARGEST = 2048  # choice: inputs of a layer, or channels of a space; rounds take minutes from there on


def change_basis(
    model: keras.Model, data: Any, *, branches: int = 1, rounds: int = 60, progress: bool | None = None
) -> Prepared:
    """Gives linear bottlenecks another basis, for ternary weights with less error.

    Between the 1x1 convolution that ends a block of MobileNetV2 and those that read it, residual additions included,
    lies no activation function. So any invertible matrix A may be put there: W A^T in place of W in the layers that
    make the channels, A^-T V in place of V in those that read them. derived (`ops.basis`): A is chosen, from the
    moments of `data`, such that ternary weights give what the float ones give with less error; by a script, on
    MobileNetV2 with one branch, 40 % less.

    What comes back is the float network from then on: give it to `quantize_model`, and to `solve_ternary`,
    `reconstruct` and `distill` as their float model.

    Args:
      model: float tf_keras model; stays untouched. Its batch norms are folded in the copy (`fold_batch_norms`).
      data: pictures as for `quantize_model`; 200 or more.
      branches: of the weights afterwards, 1 to 3. The network's first and last kernel layers are taken to keep 8 bits.
      rounds: of new ternary weights and a better matrix in turns; the best one is kept.
      progress: show a bar; None: on a terminal.

    Returns:
      Prepared: the copy, and a table of the bottlenecks: the error, summed over the layers that read one, of their
      outputs with ternary weights around it, relative to their power, before and after. Left alone, and the table says
      why, is what an activation, a depthwise layer, a kernel of several places or an output of the model reads.

    Raises:
      TypeError, ValueError: not a float Keras model, bad data, a number out of range.
    """
    check_keras_model(model, "change_basis")
    branches = _checks.integer("branches", branches, 1, 3)
    rounds = _checks.integer("rounds", rounds, 1, 10_000)
    copy = fold_batch_norms(model)
    graph = Graph(copy)
    batches = Batches(data, copy, progress=progress)
    spaces = [space for space in linear_spaces(graph) if space.readers]
    table = Table(["bottleneck made by", "channels", "layers", "error before", "error after", "note"])
    chosen = [space for space in spaces if not _why_left(space)]
    measured = _grams(copy, [node for space in chosen for node in (*space.makers, *space.readers)], batches)
    ends = set.union(*Chains(graph).first_and_last())
    for space in _progress.over(spaces, f"basis of {len(spaces)} linear spaces", "space", progress):
        name, width, layers = space.makers[0].layer.name, _width(space), len(space.makers) + len(space.readers)
        why = _why_left(space)
        if why:
            table.add(name, width, layers, 0.0, 0.0, f"left alone: {why}")
            continue
        found = basis.find(*_around(graph, space, measured, ends), TernaryLevels(branches), rounds)
        _apply(space, found.matrix)
        for node in space.readers:  # one of them may make the channels of a space behind it
            measured[node.layer.name] = found.matrix @ measured[node.layer.name] @ found.matrix.T
        table.add(name, width, layers, found.before, found.after, "")
    return Prepared(copy, table)


def _why_left(space: Space) -> str:
    largest = max(_inputs(node) for node in (*space.makers, *space.readers))
    if space.blocked:
        return space.blocked
    return f"{largest} inputs of a layer, more than {_LARGEST}" if largest > _LARGEST else ""


def _inputs(node: Any) -> int:
    return int(np.prod(node.layer.kernel.shape[:-1]))


def _width(space: Space) -> int:
    return int(output(space.makers[0]).shape[-1])


def _around(
    graph: Graph, space: Space, grams: dict[str, np.ndarray], ends: set[int]
) -> tuple[list[basis.Maker], list[basis.Reader]]:
    """The layers around a space."""
    place = {id(node): number for number, node in enumerate(graph.nodes)}

    def weights(node: Any) -> np.ndarray:
        return np.asarray(kernels.columns(node.layer, node.layer.kernel.numpy()), np.float64)

    readers = [basis.Reader(grams[n.layer.name], weights(n), id(n) in ends) for n in space.readers]
    makers = [
        basis.Maker(
            grams[node.layer.name],
            weights(node),
            id(node) in ends,
            [i for i, reader in enumerate(space.readers) if place[id(reader)] > place[id(node)]],
        )
        for node in space.makers
    ]
    return makers, readers


def _apply(space: Space, matrix: np.ndarray) -> None:
    """Mixes the channels that the makers make, and undoes it in the readers."""
    back = np.linalg.inv(matrix).T
    for node in space.makers:
        node.layer.set_weights([(w.astype(np.float64) @ matrix.T).astype(np.float32) for w in node.layer.get_weights()])
    for node in space.readers:
        kernel, *bias = node.layer.get_weights()
        node.layer.set_weights([(back @ kernel.astype(np.float64)).astype(np.float32), *bias])


def _grams(model: keras.Model, calls: list[Any], batches: Batches) -> dict[str, np.ndarray]:
    """{layer: second moments of what its kernel sees, means taken off, float64 [K, K]}."""
    if not calls:
        return {}
    calls = list({id(node): node for node in calls}.values())
    reads = keras.Model(model.inputs, [inputs(node)[0] for node in calls])
    found = {node.layer.name: moments.Moments.zeros(_inputs(node), 0) for node in calls}
    rng = np.random.default_rng(0)
    for batch in _parts(batches):
        given = batch if len(batch) > 1 else batch[0]
        for node, x in zip(calls, tf.nest.flatten(reads(given, training=False)), strict=True):
            picked = moments.drawn(node.layer, x, batches.pictures, rng)
            seen = moments.patches(node.layer, x.numpy(), picked)
            found[node.layer.name].add(seen, np.zeros((len(seen), 0)))
    return {name: sums.centred(True)[0] for name, sums in found.items()}


def _parts(batches: Batches) -> Iterator[list[tf.Tensor]]:
    for batch in batches.read("moments of the layers' inputs"):
        for begin in range(0, len(batch[0]), _PICTURES):
            yield [x[begin : begin + _PICTURES] for x in batch]
