"""`reconstruct`: each block of a quantized network is trained alone to give what the float network's gives."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_dbq import _checks, _progress
from keras_dbq._table import Table
from keras_dbq.compat import keras
from keras_dbq.keras3 import as_tf_keras
from keras_dbq.network.batches import Batches
from keras_dbq.network.blocks import Block, find_blocks
from keras_dbq.network.graph import Graph, output
from keras_dbq.solving.finished import Finished, digest
from keras_dbq.training import block_training
from keras_dbq.training.augmentation import shifted
from keras_dbq.training.block_targets import Targets
from keras_dbq.training.stored import Stored
from keras_dbq.wrapping import naming, wrappers


@dataclass
class Reconstructed:
    """What `reconstruct` did; prints as a table.

    errors: {block: (before, after)}: relative squared error of the block's output on the pictures held back.
    """

    errors: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __str__(self) -> str:
        table = Table(["block, up to", "error before", "error after"])
        for name, (before, after) in self.errors.items():
            table.add(name, f"{before:.4f}", f"{after:.4f}")
        return str(table)


def reconstruct(
    q_model: keras.Model,
    float_model: keras.Model,
    data: Any,
    *,
    blocks: Sequence[str] | None = None,
    epochs: int = 24,
    learning_rate: float = 0.02,
    batch_size: int = 32,
    copies: int = 3,
    mirror: bool = True,
    float_inputs: float = 0.5,
    codes: str | None = None,
    held_back: float = 0.1,
    seed: int = 0,
    workdir: str | os.PathLike | None = None,
    progress: bool | None = None,
) -> Reconstructed:
    """Trains a quantized network block by block, in place, to give the float network's outputs; no labels.

    source of the idea: BRECQ (Li et al., ICLR 2021); of the mixed inputs: QDrop (Wei et al., ICLR 2022). A block reads
    what the blocks before it, already trained, give, and its loss is |y - y_float|^2 / |y_float|^2. All that trains in
    it moves: weights, biases, scales and thresholds (`codes`); batch norm keeps its statistics. The error on pictures
    held back is measured, and the best state is kept, the one at the start included: no block ends worse than it began.

    Args:
      q_model: quantized, of one input; best from `solve_ternary` or init="two_step".
      float_model: the network it was made of, of tf_keras or of Keras 3.
      data: pictures, as for `quantize_model`; about 1,000. Labels are not used.
      blocks: names of the layers that blocks end with; None: residual blocks, inverted bottlenecks, depthwise and
        pointwise pairs, else single layers. Layers behind the last name stay.
      epochs: over the pictures, for each block. More of them gain more (README of the CIFAR-10 example).
      learning_rate: at the start of a block, in units of a kernel's deviation in its channel; falls along a cosine.
      batch_size: pictures of one step; where a block's maps are large a step takes fewer of them, at least 4, that hold
        32,768 positions together.
      copies: of each picture beside itself, shifted by up to an eighth of its size; each epoch takes one of them.
      mirror: whether half of the copies are mirrored, too. Not for pictures with a left and a right, such as digits.
      float_inputs: share of the numbers of a block's input that training takes from the float network, 0 to 1.
      codes: how the codes of ternary weights, and of linear ones of up to 6 bits, train: "rounding" chooses between the
        two levels next to each weight (`training.learnt_rounding`), with scales as they are; "latent" moves latent
        weights, with a straight-through gradient, and scales; it is also tried after rounding that gained nothing.
        None: "rounding" where a block is trained for 500 steps or more, as 18 epochs of 1,000 pictures are, else
        "latent", which gains more in few steps.
      held_back: share of the pictures that are not trained on.
      seed: of what is held back, of copies, and of the order.
      workdir: folder for the finished blocks. The same call with it goes on after the last one that was finished; None
        keeps nothing.
      progress: show bars; None: on a terminal.

    Returns:
      Reconstructed: the error of every block before and after. While it runs, what a block reads and should give lies
      on disk in half precision: per picture about four bytes for each number of both, times 1 + copies.

    Raises:
      TypeError: not a model.  ValueError: not quantized, several inputs, another network, too few pictures, a name at
        which the network cannot be cut, a value outside its range, a workdir of another run.
    """
    _check_model(q_model)
    settings = block_training.Settings(
        epochs=_checks.integer("epochs", epochs, 1, 2**31 - 1),
        learning_rate=_checks.number("learning_rate", learning_rate, 1e-9, 1e9),
        batch_size=_checks.integer("batch_size", batch_size, 1, 2**31 - 1),
        float_inputs=_checks.number("float_inputs", float_inputs, 0.0, 1.0),
        codes=None if codes is None else _checks.one_of("codes", codes, ("rounding", "latent")),
        seed=_checks.integer("seed", seed, 0, 2**31 - 1),
    )
    copies = _checks.integer("copies", copies, 0, 1000)
    graph, targets = Graph(q_model), Targets(as_tf_keras(float_model), q_model)
    found = find_blocks(graph, lambda node: naming.is_quantized(node) and targets.has(node), blocks)
    batches = Batches(data, q_model, progress=False)
    kept = _held_back(held_back, batches.pictures)
    run = {
        **settings._asdict(),
        **{"copies": copies, "mirror": mirror, "held_back": held_back, "pictures": batches.pictures},
        **{"blocks": [block.name for block in found], "weights": digest(q_model.get_weights()) if workdir else ""},
    }
    pictures = _Pictures(batches, copies, _checks.boolean("mirror", mirror), kept, seed)
    with tempfile.TemporaryDirectory(prefix="keras_dbq_") as folder:
        work = _Work(graph, targets, settings, Finished(workdir, run, "reconstruct"), Path(folder))
        return work.train(found, pictures, progress)


def _check_model(q_model: keras.Model) -> None:
    wrappers.check_quantized(q_model, "reconstruct")
    if len(q_model.inputs) != 1:
        raise ValueError(f"reconstruct: expected a model of one input, got {len(q_model.inputs)}")


def _held_back(share: float, pictures: int) -> int:
    """Number of pictures held back."""
    kept = round(_checks.number("held_back", share, 1e-9, 0.9) * pictures)
    if not 0 < kept < pictures:
        raise ValueError(
            f"reconstruct: expected pictures to train on and to hold back, got {pictures}, of which held_back={share} "
            f"are {kept}; give about 1,000"
        )
    return kept


class _Pictures(NamedTuple):
    """The pictures with their copies: copy c of picture i is number c * n + i of all."""

    batches: Batches
    copies: int
    mirror: bool
    held_back: int
    seed: int

    def all(self) -> Iterator[np.ndarray]:
        """The pictures, then copy after copy, in batches."""
        for copy in range(self.copies + 1):
            for number, (x,) in enumerate(self.batches):
                plain = copy == 0 or len(x.shape) != 4
                yield x.numpy() if plain else shifted(x.numpy(), self.mirror, [self.seed, copy, number])

    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the pictures to train on, and of those held back."""
        order = np.random.default_rng(self.seed).permutation(self.batches.pictures)
        return np.sort(order[self.held_back :]), np.sort(order[: self.held_back])


class _Work:
    """The way through the blocks."""

    def __init__(
        self,
        graph: Graph,
        targets: Targets,
        settings: block_training.Settings,
        finished: Finished,
        folder: Path,
    ):
        self.graph, self.targets, self.settings = graph, targets, settings
        self.finished, self.folder = finished, folder

    def train(self, blocks: list[Block], pictures: _Pictures, progress: bool | None) -> Reconstructed:
        total = (pictures.copies + 1) * pictures.batches.pictures
        given = wanted = Stored(self.folder / "x.npy", pictures.all(), total)
        student, teacher, result = self.graph.model.inputs[0], self.targets.input, Reconstructed()
        for number, block in enumerate(_progress.over(blocks, f"{len(blocks)} blocks", "block", progress)):
            node = self.graph.nodes[block.last]
            block_model = keras.Model(student, output(node))
            teacher_model = keras.Model(teacher, self.targets.tensor(node))
            target = wanted.through(block_training.inference(teacher_model), self.folder / f"wanted_{number}.npy")
            data = block_training.Data(given, wanted, target, *pictures.split(), pictures.batches.pictures)
            result.errors[block.name] = self._trained(number, block_model, data)
            new = given.through(block_training.inference(block_model), self.folder / f"given_{number}.npy")
            for old in {id(s): s for s in (given, wanted)}.values():
                old.remove()
            given, wanted, student, teacher = new, target, output(node), self.targets.tensor(node)
        return result

    def _trained(self, number: int, block: keras.Model, data: block_training.Data) -> tuple[float, float]:
        """Trains a block, or takes over what a run before has trained; its errors."""
        stored, variables = self.finished.load(number), block.trainable_variables
        if stored is None:
            errors = block_training.train(block, self.graph.model, data, self.settings, number)
            self.finished.save(number, [np.array(errors), *(v.numpy() for v in variables)])
            return errors
        for variable, value in zip(variables, stored[1:], strict=True):
            variable.assign(value)
        return float(stored[0][0]), float(stored[0][1])
