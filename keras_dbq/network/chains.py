"""Chains: calls that are one operator in an integer file, such as convolution, batch norm and ReLU.

Inside of a chain values stay in float; its end is where a quantizer stands.
"""

from collections.abc import Callable
from typing import Any

from keras_dbq.compat import tf
from keras_dbq.network import batch_norm, kernels, roles
from keras_dbq.network.graph import Graph, inner, inputs


class Chains:
    """The chains of a model.

    derived: a kernel layer without activation takes in the batch norm that folds into it and a ReLU; a sum or a batch
    norm takes in a ReLU; always the one that alone reads its output.

    Args:
      graph: of a float or a quantized model.
      ends: whether the output of a call is quantized, so that its chain ends there.
    """

    def __init__(self, graph: Graph, ends: Callable[[Any], bool] = lambda node: False):
        self.graph = graph
        self.folds = batch_norm.folds(graph, ends)
        self._meanings = {id(node): roles.meaning(node) for node in graph.nodes}
        self._next: dict[int, Any] = {}
        self._before: dict[int, Any] = {}
        for node in graph.nodes:
            reader = None if ends(node) else graph.only_reader(node)
            if reader is not None and self._takes_in(node, reader):
                self._next[id(node)], self._before[id(reader)] = reader, node

    def _takes_in(self, node: Any, reader: Any) -> bool:
        role, next_role = self.role(node), self.role(reader)
        if role == roles.WEIGHTS:
            linear = roles.activation_name(inner(node.layer).activation) == "linear"
            return linear and (next_role == roles.RELU or self.folds.get(id(node.layer)) is reader.layer)
        return role in (roles.FOLD, roles.SUM) and next_role == roles.RELU

    def meaning(self, node: Any) -> roles.Meaning:
        """What a call means for quantization."""
        return self._meanings[id(node)]

    def role(self, node: Any) -> str:
        """Its role."""
        return self._meanings[id(node)].role

    def next(self, node: Any) -> Any:
        """The call that this call's operator takes in; None at the end of a chain."""
        return self._next.get(id(node))

    def before(self, node: Any) -> Any:
        """The call whose operator takes this one in; None at the head of a chain."""
        return self._before.get(id(node))

    def head(self, node: Any) -> Any:
        """The first call of a call's chain: the operator that the file has."""
        while self.before(node) is not None:
            node = self.before(node)
        return node

    def first_and_last(self) -> tuple[set[int], set[int]]:
        """Ids of the calls of kernel layers without one before them, and of calls without one after them.

        Rewritten affine layers do not count as kernel layers.
        """
        graph = self.graph
        counts = {id(n) for n in graph.nodes if self.role(n) == roles.WEIGHTS and not kernels.is_affine(n.layer)}
        after: set[int] = set()  # tensors that have passed a kernel layer
        first: set[int] = set()
        for node in graph.nodes:
            seen = any(id(t) in after for t in inputs(node))
            if id(node) in counts and not seen:
                first.add(id(node))
            if seen or id(node) in counts:
                after.update(id(t) for t in tf.nest.flatten(node.outputs))
        before: set[int] = set()  # tensors that will pass one
        last: set[int] = set()
        for node in reversed(graph.nodes):
            seen = any(id(t) in before for t in tf.nest.flatten(node.outputs))
            if not seen:
                last.add(id(node))
            if seen or id(node) in counts:
                before.update(id(t) for t in inputs(node))
        return first, last
