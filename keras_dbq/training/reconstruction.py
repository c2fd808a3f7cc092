"""`reconstruct`: each block of a quantized network is trained alone to give what the float network's gives."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_dbq import _checks, _progress
from keras_dbq._table import Table
from keras_dbq.compat import keras, tf
from keras_dbq.keras3 import as_tf_keras
from keras_dbq.network.batches import Batches
from keras_dbq.network.blocks import Block, find_blocks
from keras_dbq.network.graph import Graph, output
from keras_dbq.solving.finished import Finished, digest
from keras_dbq.training import block_training
from keras_dbq.training.augmentation import augmented
from keras_dbq.training.block_targets import Targets
from keras_dbq.training.outputs import checked_answers, logits_model
from keras_dbq.training.stored import Stored
from keras_dbq.wrapping import naming, wrappers

# choice: of the blocks, those at the end that are trained together for the answers. MobileNetV2, one branch: the last
# two to the last ten of its 20 blocks gain alike, docs/quantization.md (34).
_SHARE_FOR_ANSWERS, _FEWEST_FOR_ANSWERS = 0.25, 2


@dataclass
class Reconstructed:
    """What `reconstruct` did; prints as a table.

    errors: {block: (before, after)}: relative squared error of the block's output on the pictures held back.
    divergence: of what the network answers from what the float network answers, on the same pictures, before and after
      the last blocks were trained together; None where they were not.
    """

    errors: dict[str, tuple[float, float]] = field(default_factory=dict)
    divergence: tuple[float, float] | None = None

    def __str__(self) -> str:
        table = Table(["block, up to", "error before", "error after"])
        for name, (before, after) in self.errors.items():
            table.add(name, f"{before:.4f}", f"{after:.4f}")
        if self.divergence is not None:
            table.add("divergence of answers", *(f"{value:.4f}" for value in self.divergence))
        return str(table)


def reconstruct(
    q_model: keras.Model,
    float_model: keras.Model,
    data: Any,
    *,
    blocks: Sequence[str] | None = None,
    epochs: int = 24,
    learning_rate: float | None = None,
    batch_size: int = 32,
    copies: int = 3,
    mirror: bool = True,
    float_inputs: float | None = None,
    codes: str | None = None,
    answers: str | None = None,
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
    Then the last blocks (a quarter of all, two or more) are trained once more, together, for the network's answers: the
    divergence of its class probabilities from the float network's falls, or they stay. That is left out where `blocks`
    leaves layers with weights behind the last one.

    Args:
      q_model: quantized, of one input; best from `solve_ternary` or init="two_step".
      float_model: the network it was made of, of tf_keras or of Keras 3.
      data: pictures, as for `quantize_model`; about 1,000. Labels are not used.
      blocks: names of the layers that blocks end with; None: residual blocks, inverted bottlenecks, depthwise and
        pointwise pairs, else single layers. Layers behind the last name stay.
      epochs: over the pictures, for each block. More of them gain more (README of the CIFAR-10 example).
      learning_rate: at the start of a block, in units of a kernel's deviation in its channel; falls along a cosine.
        None: 0.04 for annealed codes, else 0.02. For the answers a fortieth of it (None: 0.0005).
      batch_size: pictures of one step; where a block's maps are large a step takes fewer of them, at least 4, that hold
        32,768 positions together.
      copies: of each picture beside itself, shifted by up to an eighth of its size; each epoch takes one of them.
      mirror: whether half of the copies are mirrored, too. Not for pictures with a left and a right, such as digits.
      float_inputs: share of the numbers of a block's input that training takes from the float network, 0 to 1. None:
        0 for annealed codes and for the answers, else 0.5.
      codes: how the codes of ternary weights, and of linear ones of up to 6 bits, train. "annealed": latent weights on
        a soft curve, a sigmoid for every step between two levels, that grows as sharp as the steps, and scales with
        them (source: Yang et al., Quantization Networks, CVPR 2019; DBQ's smooth forward). "rounding" chooses between
        the two levels next to each weight (`training.learnt_rounding`), with scales as they are. "latent" moves latent
        weights, with a straight-through gradient, and scales; it is also tried where the others gained nothing.
        None: "annealed" for one ternary branch in a block whose error is 0.15 or more, else "rounding" where a block is
        trained for 500 steps or more, as 18 epochs of 1,000 pictures are, else "latent", which gains more in few steps.
      answers: what the outputs mean: "softmax", logits or probabilities of classes; "sigmoid", of yes and no each;
        "numbers", anything else, for which the answers are not trained. None: what the model ends in, "numbers" where
        that is neither a softmax nor a sigmoid.
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
        which the network cannot be cut, a value outside its range, `answers` that do not fit how the model ends, a
        workdir of another run.
    """
    _check_model(q_model)
    settings = block_training.Settings(
        epochs=_checks.integer("epochs", epochs, 1, 2**31 - 1),
        learning_rate=None if learning_rate is None else _checks.number("learning_rate", learning_rate, 1e-9, 1e9),
        batch_size=_checks.integer("batch_size", batch_size, 1, 2**31 - 1),
        float_inputs=None if float_inputs is None else _checks.number("float_inputs", float_inputs, 0.0, 1.0),
        codes=None if codes is None else _checks.one_of("codes", codes, block_training.CODES),
        seed=_checks.integer("seed", seed, 0, 2**31 - 1),
    )
    copies, meant = _checks.integer("copies", copies, 0, 1000), checked_answers(answers, q_model)
    graph, targets = Graph(q_model), Targets(as_tf_keras(float_model), q_model)
    found = find_blocks(graph, lambda node: naming.is_quantized(node) and targets.has(node), blocks)
    batches = Batches(data, q_model, progress=False)
    kept = _held_back(held_back, batches.pictures)
    run = {
        **settings._asdict(),
        **{"answers": meant, "copies": copies, "mirror": mirror, "held_back": held_back, "pictures": batches.pictures},
        **{"blocks": [block.name for block in found], "weights": digest(q_model.get_weights()) if workdir else ""},
    }
    pictures = _Pictures(batches, copies, _checks.boolean("mirror", mirror), kept, seed)
    with tempfile.TemporaryDirectory(prefix="keras_dbq_") as folder:
        work = _Work(graph, targets, settings, Finished(workdir, run, "reconstruct"), Path(folder))
        return work.train(found, meant, pictures, progress)


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
        ways = ("shift", "mirror") if self.mirror else ("shift",)
        for copy in range(self.copies + 1):
            for number, (x,) in enumerate(self.batches):
                seed = tf.random.experimental.stateless_fold_in([self.seed, copy], number)
                yield (augmented(x, ways, seed) if copy and len(x.shape) == 4 else x).numpy()

    def split(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the pictures to train on, and of those held back."""
        order = np.random.default_rng(self.seed).permutation(self.batches.pictures)
        return np.sort(order[self.held_back :]), np.sort(order[: self.held_back])


class _Place(NamedTuple):
    """A place between two blocks. given, student: what the quantized network gives there, and that tensor.  wanted,
    teacher: of the float network.
    """

    given: Stored
    wanted: Stored
    student: Any
    teacher: Any


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

    def train(self, blocks: list[Block], meant: str, pictures: _Pictures, progress: bool | None) -> Reconstructed:
        stored = Stored(self.folder / "x.npy", pictures.all(), (pictures.copies + 1) * pictures.batches.pictures)
        place = _Place(stored, stored, self.graph.model.inputs[0], self.targets.input)
        result, kept, first = Reconstructed(), None, self._first_for_answers(blocks, meant)
        for number, block in enumerate(_progress.over(blocks, f"{len(blocks)} blocks", "block", progress)):
            kept = place if number == first else kept
            node = self.graph.nodes[block.last]
            block_model, data = self._cut(place, output(node), self.targets.tensor(node), number, pictures)
            run = functools.partial(block_training.train, block_model, self.graph.model, data, self.settings, number)
            result.errors[block.name] = self._trained(number, block_model, run)
            new = place.given.through(block_training.inference(block_model), self.folder / f"given_{number}.npy")
            for old in {id(s): s for s in place[:2] if kept is None or s not in kept[:2]}.values():
                old.remove()
            place = _Place(new, data.wanted, output(node), self.targets.tensor(node))
        if kept is not None:
            number, (logits, wanted) = len(blocks), self._logits()
            block_model, data = self._cut(kept, logits, wanted, number, pictures)
            arguments = block_model, self.graph.model, data, self.settings, number, meant
            run = functools.partial(block_training.train_answers, *arguments)
            result.divergence = self._trained(number, block_model, run)
        return result

    def _cut(
        self, place: _Place, student: Any, teacher: Any, number: int, pictures: _Pictures
    ) -> tuple[keras.Model, block_training.Data]:
        """The quantized network from a place to a tensor, and what it reads there and should give."""
        teacher_model = keras.Model(place.teacher, teacher)
        target = place.wanted.through(block_training.inference(teacher_model), self.folder / f"wanted_{number}.npy")
        data = block_training.Data(place.given, place.wanted, target, *pictures.split(), pictures.batches.pictures)
        return keras.Model(place.student, student), data

    def _first_for_answers(self, blocks: list[Block], meant: str) -> int | None:
        """Number of the first of the last blocks, which are trained together for the answers; None for none."""
        if meant == "numbers":
            return None
        logits, last = self._logits()[0], blocks[-1].last
        reached = any(logits is output(node) for node in self.graph.nodes[last:])
        if not reached or any(wrappers.inner(node.layer).weights for node in self.graph.nodes[last + 1 :]):
            return None
        return max(0, len(blocks) - max(_FEWEST_FOR_ANSWERS, round(_SHARE_FOR_ANSWERS * len(blocks))))

    def _logits(self) -> tuple[Any, Any]:
        """Of the quantized network and of the float network."""
        return logits_model(self.graph.model).outputs[0], logits_model(self.targets.model).outputs[0]

    def _trained(self, number: int, block: keras.Model, run: Callable[[], tuple[float, float]]) -> tuple[float, float]:
        """Trains a block, or takes over what a run before has trained; what `run` gives."""
        stored, variables = self.finished.load(number), block.trainable_variables
        if stored is None:
            errors = run()
            self.finished.save(number, [np.array(errors), *(v.numpy() for v in variables)])
            return errors
        for variable, value in zip(variables, stored[1:], strict=True):
            variable.assign(value)
        return float(stored[0][0]), float(stored[0][1])
