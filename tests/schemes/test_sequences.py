"""Layers on sequences as layers on maps: what is built, and that nothing is turned back and forth."""

import pytest

from keras_dbq.compat import keras
from keras_dbq.schemes.rewrite import rewrite
from tests import zoo

L = keras.layers


def rewritten(call, shape):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, call(inputs))
    return rewrite(model, {layer.name for layer in model.layers})


def kinds(found):
    return [type(layer).__name__ for layer in found.model.layers[1:]]


def test_a_chain_stays_on_maps():
    """One Reshape at the start; batch norm and ReLU stay beside the convolution, into which they fuse."""
    found = rewritten(
        lambda x: L.GlobalAveragePooling1D()(
            L.ReLU()(L.BatchNormalization()(L.Conv1D(4, 3)(L.ReLU()(L.Conv1D(4, 3, name="a")(x)))))
        ),
        (20, 3),
    )
    expected = ["Reshape", "Conv2D", "ReLU", "Conv2D", "BatchNormalization", "ReLU", "GlobalAveragePooling2D"]
    assert kinds(found) == expected
    assert found.origin["a"].type == "Conv1D" and found.model.get_layer("a").kernel.shape == (1, 3, 3, 4)


def test_what_is_no_layer_on_sequences_gets_a_sequence():
    found = rewritten(lambda x: L.Flatten()(L.Permute((2, 1))(L.Conv1D(4, 3)(x))), (20, 3))
    assert kinds(found) == ["Reshape", "Conv2D", "Reshape", "Permute", "Flatten"]


def test_a_network_without_sequences_is_left_alone():
    assert kinds(rewritten(lambda x: L.ReLU()(L.Dense(3)(x)), (7, 3))) == ["Dense", "ReLU"]


CASES = [name for name in zoo.NETWORKS if "1D" in name or "Time" in name]


@pytest.mark.parametrize("name", CASES)
def test_no_layer_on_sequences_is_left(name):
    model = zoo.NETWORKS[name]()
    found = rewrite(model, {layer.name for layer in model.layers})
    left = [layer for layer in found.model.layers if "1D" in type(layer).__name__]
    assert not left and not any(isinstance(layer, L.TimeDistributed) for layer in found.model.layers)


def test_other_layouts_are_refused_and_not_rewritten():
    found = rewritten(lambda x: L.MaxPooling1D(2, data_format="channels_first")(x), (20, 3))
    assert kinds(found) == ["MaxPooling1D"]
