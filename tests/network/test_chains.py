"""Chains: what is one operator in an integer file."""

import pytest

from keras_dbq.compat import keras, tf
from keras_dbq.network.chains import Chains
from keras_dbq.network.graph import Graph

L = keras.layers


def heads(build, **ends):
    """{layer: head of its chain} where they differ."""
    inputs = keras.Input((4, 4, 2))
    chains = Chains(Graph(keras.Model(inputs, build(inputs))), **ends)
    found = {node.layer.name: chains.head(node).layer.name for node in chains.graph.nodes}
    return {name: head for name, head in found.items() if name != head}


def conv(x, **options):
    return L.Conv2D(2, 1, name="c", **options)(x)


def norm(x):
    return L.BatchNormalization(name="n")(x)


def relu(x, limit=None):
    return L.ReLU(limit, name="r")(x)


CASES = {
    "kernel, norm, relu": (lambda x: relu(norm(conv(x))), {"n": "c", "r": "c"}),
    "kernel, relu6": (lambda x: relu(conv(x), 6), {"r": "c"}),
    "kernel with activation, relu": (lambda x: relu(conv(x, activation="relu")), {}),
    "sum, relu": (lambda x: relu(L.Add(name="a")([x, x])), {"r": "a"}),
    "norm alone, relu": (lambda x: relu(norm(x)), {"r": "n"}),
    "concatenation, relu": (lambda x: relu(L.Concatenate(name="j")([x, x])), {}),
    "pooling between": (lambda x: relu(L.MaxPooling2D(name="p")(conv(x))), {}),
    "relu behind relu": (lambda x: L.ReLU(name="s")(relu(conv(x))), {"r": "c"}),
    "operators on tensors": (lambda x: tf.nn.relu(conv(x)), {"tf.nn.relu": "c"}),
    "two readers": (lambda x: [y for c in [conv(x)] for y in (relu(c), L.MaxPooling2D()(c))], {}),
}


@pytest.mark.parametrize("build, expected", CASES.values(), ids=list(CASES))
def test_heads(build, expected):
    assert heads(build) == expected


def test_a_chain_ends_where_a_quantizer_stands():
    assert heads(CASES["kernel, norm, relu"][0], ends=lambda node: node.layer.name == "n") == {"n": "c"}


def test_next_and_before_are_inverse():
    inputs = keras.Input((4, 4, 2))
    chains = Chains(Graph(keras.Model(inputs, relu(norm(conv(inputs))))))
    first, second, third = chains.graph.nodes
    assert chains.next(first) is second and chains.next(second) is third and chains.next(third) is None
    assert chains.before(third) is second and chains.before(second) is first and chains.before(first) is None
