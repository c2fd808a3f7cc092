"""Two networks of the same graph, run side by side from one layer to the next, with bounded memory.

The tensors that later calls still read lie on disk, one file per batch and tensor, so that each call runs once per
batch and nothing is computed again from the network's input.
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
            for number, value in enumerate(batch):
                np.save(self._path(self.count - 1, number), value.numpy())
        self.stored = set(range(len(model.inputs)))  # numbers of the tensors that have files

    def advance(self, position: int) -> None:
        """Runs all calls before that one, batch by batch."""
        if position <= self.position:
            return
        calls = self.nodes[self.position : position]
        computed = {self._number[id(t)] for node in calls for t in tf.nest.flatten(node.outputs)}
        wanted = self._read_from(position) & (self.stored | computed)
        for batch in range(self.count):
            values: Tensors = {}
            for node in calls:
                self._run(node, values, batch)
            for number in wanted - self.stored:
                np.save(self._path(batch, number), values[number].numpy())
            for number in self.stored - wanted:
                self._path(batch, number).unlink()
        self.position, self.stored = position, wanted

    def inputs(self) -> Iterator[np.ndarray]:
        """What the next call reads as its first input, batch by batch."""
        number = self._number[id(tf.nest.flatten(self.nodes[self.position].keras_inputs)[0])]
        for batch in range(self.count):
            yield np.load(self._path(batch, number))

    def _run(self, node: Any, values: Tensors, batch: int) -> None:
        def value_of(argument: Any) -> Any:
            number = self._number.get(id(argument))
            if number is None:
                return argument
            if number not in values:
                values[number] = tf.convert_to_tensor(np.load(self._path(batch, number)))
            return values[number]

        args, kwargs = tf.nest.map_structure(value_of, (node.call_args, node.call_kwargs))
        kwargs = {name: value for name, value in kwargs.items() if name != "training"}
        call: Callable[..., Any] = node.layer
        result = call(*args, training=False, **kwargs) if node.layer._expects_training_arg else call(*args, **kwargs)
        for tensor, value in zip(tf.nest.flatten(node.outputs), tf.nest.flatten(result), strict=True):
            values[self._number[id(tensor)]] = value

    def _read_from(self, position: int) -> set[int]:
        """Numbers of the tensors that the calls from there on read."""
        rest = self.nodes[position:]
        return {self._number[id(t)] for node in rest for t in tf.nest.flatten(node.keras_inputs)}

    def _path(self, batch: int, number: int) -> Path:
        return self.folder / f"{batch}_{number}.npy"
