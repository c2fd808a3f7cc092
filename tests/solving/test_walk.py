"""Side by side through a network: every tensor is what the whole network has there, and old ones are dropped."""

import numpy as np

from keras_dbq.compat import keras
from keras_dbq.network.batches import BATCH, Batches
from keras_dbq.network.graph import nodes
from keras_dbq.solving.walk import Walk
from tests import nets

L = keras.layers


def network():
    a, b = keras.Input((6, 6, 3), name="a"), keras.Input((6, 6, 3), name="b")
    shared = L.Conv2D(4, 3, padding="same", name="shared")
    x = L.Add(name="add")([shared(a), L.Dropout(0.5)(shared(b))])
    y = L.BatchNormalization(name="norm")(x)
    return keras.Model([a, b], [L.Concatenate(name="join")([x, y]), L.GlobalAveragePooling2D(name="mean")(y)])


def test_inputs_of_every_call(tmp_path):
    model = nets.randomize(network())
    x = [np.random.default_rng(i).normal(size=(BATCH + 9, 6, 6, 3)).astype(np.float32) for i in (0, 1)]
    walk = Walk(model, Batches(x, model), tmp_path / "walk")
    for position, node in enumerate(nodes(model)):
        walk.advance(position)
        first = keras.backend.is_keras_tensor(node.keras_inputs[0]) and node.keras_inputs[0]
        wanted = keras.Model(model.inputs, first)(x, training=False).numpy()
        got = np.concatenate(list(walk.inputs()))
        np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert {path.name.split("_")[0] for path in (tmp_path / "walk").iterdir()} == {"0", "1"}


def test_what_nothing_reads_any_more_is_dropped(tmp_path):
    model = nets.randomize(network())
    x = [np.zeros((2, 6, 6, 3), np.float32)] * 2
    walk = Walk(model, Batches(x, model), tmp_path / "walk")
    walk.advance(len(walk.nodes) - 1)
    assert 1 <= len(list((tmp_path / "walk").iterdir())) <= 2
