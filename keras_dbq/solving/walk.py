"""Two networks of the same graph, run side by side from one layer to the next, with bounded memory.

The tensors that later calls still read lie on disk, one file per batch, so that each call runs once per batch and
nothing is computed again from the network's input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.network.batches import Batches
from keras_dbq.network.graph import nodes

Tensors = dict[int, Any]  # position of a KerasTensor in the graph -> its values for a batch


class Walk:
    """One network on its way through the data.

    Args:
      model: functional or Sequential, flat.
      batches: what it reads.
      folder: for the files; the caller removes it.
    """

    def __init__(self, model: keras.Model, batches: Batches, folder: Path):
        self.model, self.folder, self.nodes = model, folder, nodes(model)
        folder.mkdir()
        self.position = 0  # of the first node that has not run
        self._number: dict[int, int] = {id(t): i for i, t in enumerate(model.inputs)}
        for node in self.nodes:
            for tensor in tf.nest.flatten(node.outputs):
                self._number.setdefault(id(tensor), len(self._number))
        self.count = 0
        for self.count, batch in enumerate(batches, 1):
            self._save(self.count - 1, {i: value.numpy() for i, value in enumerate(batch)})

    def advance(self, position: int) -> None:
        """Runs all calls before that one, batch by batch."""
        if position > self.position:
            for batch in range(self.count):
                values = self._load(batch)
                for node in self.nodes[self.position : position]:
                    self._run(node, values)
                wanted = self._read_from(position)
                self._save(batch, {number: value for number, value in values.items() if number in wanted})
        self.position = position

    def inputs(self) -> Iterator[np.ndarray]:
        """What the next call reads as its first input, batch by batch."""
        number = self._number[id(tf.nest.flatten(self.nodes[self.position].keras_inputs)[0])]
        for batch in range(self.count):
            yield self._load(batch)[number]

    def _run(self, node: Any, values: Tensors) -> None:
        def value_of(argument: Any) -> Any:
            number = self._number.get(id(argument))
            return argument if number is None else tf.convert_to_tensor(values[number])

        args, kwargs = tf.nest.map_structure(value_of, (node.call_args, node.call_kwargs))
        kwargs = {name: value for name, value in kwargs.items() if name != "training"}
        call: Callable[..., Any] = node.layer
        result = call(*args, training=False, **kwargs) if node.layer._expects_training_arg else call(*args, **kwargs)
        for tensor, value in zip(tf.nest.flatten(node.outputs), tf.nest.flatten(result), strict=True):
            values[self._number[id(tensor)]] = value.numpy()

    def _read_from(self, position: int) -> set[int]:
        """Numbers of the tensors that the calls from there on read."""
        rest = self.nodes[position:]
        return {self._number[id(t)] for node in rest for t in tf.nest.flatten(node.keras_inputs)}

    def _path(self, batch: int) -> Path:
        return self.folder / f"{batch}.npz"

    def _load(self, batch: int) -> Tensors:
        with np.load(self._path(batch)) as stored:
            return {int(name): stored[name] for name in stored.files}

    def _save(self, batch: int, values: Tensors) -> None:
        np.savez(self._path(batch), **{str(number): value for number, value in values.items()})
