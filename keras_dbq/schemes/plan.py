"""The plan: which tensors of a rewritten network get a quantizer, exactly one each.

derived: a tensor gets a quantizer where its integer operator ends: at the end of a chain (kernel, batch norm, ReLU),
not behind layers that keep their input's range, and once for a concatenation and the inputs that feed nothing else.
"""

from dataclasses import dataclass, field
from typing import Any

from keras_dbq.compat import keras, tf
from keras_dbq.network import roles
from keras_dbq.network.chains import Chains
from keras_dbq.network.graph import Graph, input_layers, inputs, output
from keras_dbq.network.roles import FIXED, FOLD, IDENTITY, JOIN, RELU, SAME_RANGE, UNSUPPORTED, WEIGHTS, Meaning

L = keras.layers
_KEEP_SIGN = (L.Add, L.Multiply, L.Average, L.Maximum, L.AveragePooling2D, L.GlobalAveragePooling2D)


@dataclass
class Step:
    """What happens to one layer of the rewritten model.

    meaning: role and range, see `network.roles`.  quantize_output: whether this layer carries the output's quantizer.
    unsigned: the output is never negative.
    first: a kernel layer with no kernel layer before it.  last: no kernel layer after it.
    affine: what the layer was rewritten from, a phrase, where it is a factor and an offset per channel.
    """

    layer: keras.layers.Layer
    meaning: Meaning
    quantize_output: bool = False
    unsigned: bool = False
    first: bool = False
    last: bool = False
    affine: str = ""


@dataclass(frozen=True)
class Plan:
    """One Step per layer in the order of execution, and the names of the inputs that are quantized."""

    steps: list[Step]
    inputs: set[str] = field(default_factory=set)


def plan(model: keras.Model, quantized: set[str]) -> Plan:
    """Plans a rewritten model.

    Args:
      model: the result of `rewrite`.
      quantized: names of its layers that are to be quantized.
    """
    graph = Graph(model)
    chains = Chains(graph)
    read = _read_by_quantized(graph, chains, quantized)
    ends = _chain_ends(graph, chains, quantized, read)
    unsigned = _never_negative(graph, chains)
    first, last = chains.first_and_last()
    steps: dict[str, Step] = {}
    for node in graph.nodes:
        step = steps.setdefault(node.layer.name, Step(node.layer, chains.meaning(node), unsigned=True))
        # A shared layer: one quantizer serves all its calls if any call needs it.
        step.quantize_output |= id(node) in ends
        step.unsigned &= id(output(node)) in unsigned
        step.first |= id(node) in first
        step.last |= id(node) in last
    named = zip(model.inputs, input_layers(model), strict=True)
    return Plan(list(steps.values()), {layer.name for tensor, layer in named if id(tensor) in read})


def _read_by_quantized(graph: Graph, chains: Chains, quantized: set[str]) -> set[int]:
    """Ids of tensors that a quantized layer reads, directly or through layers that keep the range."""
    read: set[int] = set()
    for node in reversed(graph.nodes):
        passes = chains.role(node) in (SAME_RANGE, IDENTITY)
        if node.layer.name in quantized or (passes and any(id(t) in read for t in tf.nest.flatten(node.outputs))):
            read.update(id(tensor) for tensor in inputs(node))
    return read


def _chain_ends(graph: Graph, chains: Chains, quantized: set[str], read: set[int]) -> set[int]:
    """Ids of the calls at whose output an integer operator ends. (`explain` gives the reasons, from the model.)"""
    belongs: set[int] = set()  # calls whose chain has a quantized layer, up to them
    ends: set[int] = set()
    for node in graph.nodes:
        before = chains.before(node)
        if node.layer.name in quantized or (before is not None and id(before) in belongs):
            belongs.add(id(node))
        if (id(node) in belongs or id(output(node)) in read) and _ends(graph, chains, node, quantized):
            ends.add(id(node))
    return ends


def _ends(graph: Graph, chains: Chains, node: Any, quantized: set[str]) -> bool:
    if chains.role(node) in (SAME_RANGE, IDENTITY) or chains.next(node) is not None:
        return False
    reader = graph.only_reader(node)
    joined = reader is not None and chains.role(reader) == JOIN and reader.layer.name in quantized
    return not joined or chains.role(node) == FIXED  # a fixed range cannot be that of a concatenation


def _never_negative(graph: Graph, chains: Chains) -> set[int]:
    """Ids of the tensors that are never negative."""
    found: set[int] = set()
    for node in graph.nodes:
        if _is_never_negative(node, chains.role(node), found):
            found.update(id(tensor) for tensor in tf.nest.flatten(node.outputs))
    return found


def _is_never_negative(node: Any, role: str, known: set[int]) -> bool:
    layer = node.layer
    if role == RELU or roles.unsigned_output(layer):
        return True
    if role in (WEIGHTS, FOLD, UNSUPPORTED, FIXED) or roles.is_function_layer(layer):
        return False
    keeps = role in (SAME_RANGE, IDENTITY, JOIN) or isinstance(layer, _KEEP_SIGN)
    return keeps and all(id(tensor) in known for tensor in inputs(node))
