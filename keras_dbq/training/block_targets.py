"""The float network beside a quantized one: which of its tensors a block has to give."""

from __future__ import annotations

from typing import Any

from keras_dbq.compat import keras
from keras_dbq.network import batch_norm
from keras_dbq.network.graph import Graph, flat_copy, output
from keras_dbq.schemes import DBQScheme
from keras_dbq.schemes.application import wrapped
from keras_dbq.wrapping import naming, wrappers


class Targets:
    """Tensors of the float network by the names of the quantized network's layers.

    Args:
      float_model: what the quantized network was made of.
      q_model: quantized; its batch norms may be folded already.

    Raises:
      ValueError: another network.
    """

    def __init__(self, float_model: keras.Model, q_model: keras.Model):
        # In the quantized network's form, so that layers which were split or replaced have the same names.
        self.model = wrapped(flat_copy(float_model), DBQScheme(on_unsupported="skip"))
        self._graph = Graph(self.model)
        self._by_name = {naming.plain_name(node.layer): node for node in self._graph.nodes}
        self._own = {naming.plain_name(layer) for layer in wrappers.all_layers(q_model)}
        self._norms = {id(n.layer): n for n in self._graph.nodes if batch_norm.is_batch_norm(n.layer)}
        self._folds = batch_norm.folds(self._graph, lambda node: False)
        if tuple(self.model.inputs[0].shape[1:]) != tuple(q_model.inputs[0].shape[1:]):
            raise ValueError(
                f"reconstruct: expected the float network that the quantized model was made of, got one of input shape "
                f"{tuple(self.model.inputs[0].shape[1:])} instead of {tuple(q_model.inputs[0].shape[1:])}"
            )
        self._flags = wrappers.quantizer_flags(self.model, weights_bypass=True, activations_bypass=True)
        self._flags.__enter__()  # for good: this copy is never quantized

    @property
    def input(self) -> Any:
        """The network's input."""
        return self.model.inputs[0]

    def has(self, node: Any) -> bool:
        """Whether the float network has what a call of the quantized one gives."""
        name = naming.plain_name(node.layer)
        found = name in self._by_name and name != naming.plain_name(self._graph.nodes[0].layer)
        return found and self.tensor(node).shape[1:] == output(node).shape[1:]

    def tensor(self, node: Any) -> Any:
        """The float network's tensor of the same meaning: behind a batch norm that the quantized network has folded."""
        own = self._by_name[naming.plain_name(node.layer)]
        norm = self._folds.get(id(own.layer))
        if norm is not None and naming.plain_name(norm) not in self._own:
            own = self._norms[id(norm)]
        return output(own)
