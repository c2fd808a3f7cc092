"""The float network's tensors by the quantized network's layers."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.network.graph import Graph
from keras_dbq.training.block_targets import Targets
from keras_dbq.wrapping import naming
from tests import nets

L = keras.layers
X = np.random.default_rng(0).normal(size=(20, 8, 8, 3)).astype(np.float32)


def network():
    inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(4, 3, use_bias=False, name="conv", padding="same")(inputs)
    x = L.BatchNormalization(name="norm")(x)
    y = L.Conv2D(4, 3, activation="relu", padding="same", name="inside")(x)
    return nets.randomize(
        keras.Model(inputs, L.Dense(3, name="head")(L.Flatten(name="flat")(L.Add(name="sum")([x, y]))))
    )


@pytest.mark.parametrize("scheme", [keras_dbq.DBQScheme(), keras_dbq.FATScheme()])
def test_every_quantized_tensor_has_its_float_one(scheme):
    """Behind the batch norm, also where the quantized network has none any more."""
    model = network()
    q_model = keras_dbq.quantize_model(model, scheme, calibration_data=X)
    targets = Targets(model, q_model)
    of = {"conv": "norm", "norm": "norm", "inside_relu": "inside", "sum": "sum", "head": "head"}
    found = {naming.plain_name(n.layer): n for n in Graph(q_model).nodes if naming.is_quantized(n)}
    for name, node in found.items():
        if name in of:
            wanted = keras.Model(model.input, model.get_layer(of[name]).output)(X)
            got = keras.Model(targets.input, targets.tensor(node))(X, training=False)
            np.testing.assert_allclose(got, wanted, atol=1e-4)
    assert {"sum", "head"} <= set(found) and not targets.has(next(iter(found.values())))


def test_another_network():
    q_model = keras_dbq.quantize_model(network(), keras_dbq.DBQScheme(), calibration_data=X)
    other = keras.Sequential([keras.Input((4, 4, 3)), L.Conv2D(2, 1)])
    with pytest.raises(ValueError, match="expected the float network that the quantized model was made of"):
        Targets(other, q_model)
