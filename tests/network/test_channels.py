"""The walk along a channel: the same in both directions, and what each layer does to a channel."""

import pytest

from keras_dbq.compat import keras
from keras_dbq.network import channels
from keras_dbq.network.graph import Graph

L = keras.layers


def graph_of(build):
    inputs = keras.Input((4, 4, 2), name="image")
    return Graph(keras.Model(inputs, build(inputs)))


def node(graph, name):
    return next(n for n in graph.nodes if n.layer.name == name)


def test_both_directions_are_one_way():
    graph = graph_of(lambda x: L.Conv2D(2, 1, name="b")(L.ReLU(name="r")(L.Conv2D(2, 1, name="a")(x))))
    for first, second in (("a", "r"), ("r", "b")):
        assert channels.after(graph, node(graph, first)) is node(graph, second)
        assert channels.before(graph, node(graph, second)) is node(graph, first)


def test_why_a_walk_ends():
    def build(x):
        y = L.Conv2D(2, 1, name="a")(x)
        return [L.ReLU(name="r")(y), L.Add(name="s")([y, L.ReLU(name="t")(x)])]

    graph = graph_of(build)
    assert channels.after(graph, node(graph, "a")).reason == "several layers read it"
    assert channels.after(graph, node(graph, "r")).reason == "an output of the model"
    assert channels.before(graph, node(graph, "r")).reason == "several layers read a"
    assert channels.before(graph, node(graph, "t")).reason == "several layers read image"
    alone = graph_of(lambda x: L.ReLU(name="r")(x))
    assert channels.before(alone, node(alone, "r")).reason == "image makes its channels"
    joined = graph_of(lambda x: L.Add(name="s")([L.ReLU()(x), L.Softmax()(x)]))
    assert channels.before(joined, node(joined, "s")).reason == "s has several inputs"


@pytest.mark.parametrize(
    "layer, expected",
    [
        (L.ReLU(), "relu"),
        (L.ReLU(6), "relu6"),
        (L.ReLU(negative_slope=0.1), "ReLU"),
        (L.Activation("tanh"), "tanh"),
        (L.MaxPooling2D(), "linear"),
        (L.ZeroPadding2D(), "linear"),
        (L.UpSampling2D(), "linear"),
        (L.UpSampling2D(interpolation="bilinear"), "UpSampling2D"),
        (L.Flatten(), "Flatten"),
        (L.Conv2D(1, 1), "Conv2D"),
        (L.BatchNormalization(), "BatchNormalization"),
    ],
)
def test_crossing(layer, expected):
    assert channels.crossing(layer) == expected
