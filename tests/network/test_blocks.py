"""Blocks found from the graph: residual blocks, inverted bottlenecks, depthwise and pointwise pairs, or named ones."""

import pytest

import keras_dbq
from keras_dbq import models
from keras_dbq.compat import keras
from keras_dbq.network.blocks import find_blocks
from keras_dbq.network.graph import Graph
from keras_dbq.wrapping import naming

L = keras.layers
pytestmark = pytest.mark.filterwarnings("ignore:keras_dbq. no calibration data")


def names(model, wanted=None):
    """Blocks of the quantized model."""
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme())
    blocks = find_blocks(Graph(q_model), naming.is_quantized, wanted)
    assert blocks[0].first == 0
    assert all(a.last + 1 == b.first for a, b in zip(blocks, blocks[1:], strict=False))
    return [block.name for block in blocks]


def test_residual_blocks():
    wanted = [f"layer{s}.{b}.relu2" for s in (1, 2, 3) for b in (0, 1)]
    assert names(models.resnet_cifar(14)) == ["relu1", *wanted, "linear"]


def test_depthwise_and_pointwise_pairs():
    wanted = [f"block{i}_pointwise_relu" for i in range(1, 14)]
    assert names(models.mobilenet_v1((32, 32, 3))) == ["conv_relu", *wanted, "logits"]


def test_inverted_bottlenecks():
    found = names(models.mobilenet_v2((32, 32, 3), 10))
    ends = [f"block{i}_{'add' if i in (2, 4, 5, 7, 8, 9, 11, 12, 14, 15) else 'project'}" for i in range(17)]
    assert found == ["conv_relu", *ends, "head_relu", "logits"]


def test_single_layers_and_what_has_no_weights():
    inputs = keras.Input((8, 8, 3))
    x = L.ReLU(name="a")(L.Conv2D(4, 3)(inputs))
    x = L.AveragePooling2D(name="pool")(x)
    x = L.ReLU(name="b")(L.Conv2D(4, 1)(x))
    x = L.Dense(3, name="head")(L.Flatten()(x))
    assert names(keras.Model(inputs, L.Softmax(name="softmax")(x))) == ["a", "b", "head"]


def test_a_network_with_a_tensor_that_goes_past_everything():
    inputs = keras.Input((8, 8, 3))
    x = L.ReLU(name="a")(L.Conv2D(3, 3, padding="same")(inputs))
    x = L.ReLU(name="b")(L.Conv2D(3, 3, padding="same")(x))
    x = L.Add(name="sum")([x, inputs])
    assert names(keras.Model(inputs, L.Conv2D(2, 1, name="last")(x))) == ["sum", "last"]


def test_named():
    assert names(models.resnet_cifar(14), ["layer1.1.relu2", "layer3.0.relu2"]) == [
        "layer1.1.relu2",
        "layer3.0.relu2",
    ]
    with pytest.raises(ValueError, match="blocks: expected layers among .*layer1.0.relu2.*, got layer1.0.relu1"):
        names(models.resnet_cifar(14), ["layer1.0.relu1"])
