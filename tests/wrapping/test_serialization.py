"""Saving and loading in every format, in a fresh process, and training on with the same loss."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import keras_dbq
from keras_dbq import _stand_ins
from keras_dbq.compat import keras
from keras_dbq.wrapping import serialization
from tests import nets

REPOSITORY = Path(__file__).resolve().parents[2]
LOADER = """
import json, sys
import numpy as np
import keras_dbq
sys.path.append(sys.argv[3])
from keras_dbq.compat import keras
from tests import nets
folder, make = sys.argv[1:3]
x, y = (np.load(f"{folder}/{name}.npy") for name in "xy")
results = {}
for file in sys.argv[4:]:
    if "weights" in file:
        model = keras_dbq.quantize_model(getattr(nets, make)(), keras_dbq.DBQScheme(thresholds="trained"),
                                         nets.pictures(seed=77))
        model.load_weights(f"{folder}/{file}")
        model.compile("sgd", "mse")
    else:
        model = keras.models.load_model(f"{folder}/{file}")
    predicted = model.predict(x, verbose=0).tolist()
    loss = model.fit(x, y, batch_size=16, shuffle=False, epochs=2, verbose=0).history["loss"]
    results[file] = {"predicted": predicted, "loss": loss}
print(json.dumps(results))
"""
# tf_keras does not restore an optimizer's slots from a SavedModel (a float model's neither), and weights have none.
WITH_OPTIMIZER, WITHOUT = ("m.keras", "m.h5"), ("saved_model", "m.weights.h5", "weights_checkpoint")


def save(q_model, path):
    if "weights" in path.name:
        q_model.save_weights(path)
    else:
        q_model.save(path)


def train(q_model, x, y, epochs):
    return q_model.fit(x, y, batch_size=16, shuffle=False, epochs=epochs, verbose=0).history["loss"]


@pytest.mark.parametrize(
    "make, files",
    [
        # The first file is loaded by a program that has imported keras_dbq and used nothing of it.
        (nets.resnet, WITH_OPTIMIZER[:1]),
        pytest.param(nets.resnet, (*WITH_OPTIMIZER[1:], *WITHOUT), marks=pytest.mark.slow),
        pytest.param(nets.mobilenet_v1, ("m.h5", "m.keras"), marks=pytest.mark.slow),
        pytest.param(nets.shufflenet, ("saved_model", "m.keras"), marks=pytest.mark.slow),
    ],
    ids=["resnet", "resnet, all", "mobilenet_v1", "shufflenet"],
)
def test_round_trips_in_a_fresh_process(make, files, tmp_path):
    """Every format gives the same outputs and goes on training with the same loss."""
    q_model = keras_dbq.quantize_model(make(), keras_dbq.DBQScheme(thresholds="trained"), nets.pictures())
    x = nets.pictures(32, seed=4)
    y = np.random.default_rng(5).normal(size=(32, q_model.output_shape[-1])).astype(np.float32)
    expected = {}
    for optimizer, kinds in (("adam", WITH_OPTIMIZER), ("sgd", WITHOUT)):
        asked = [file for file in kinds if file in files]
        if not asked:
            continue
        q_model.compile(optimizer, "mse")
        train(q_model, x, y, 1)
        for file in asked:
            save(q_model, tmp_path / file)
        outputs = q_model.predict(x, verbose=0)
        losses = train(q_model, x, y, 2)
        expected |= {file: (outputs, losses) for file in asked}
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    arguments = [str(tmp_path), make.__name__, str(REPOSITORY), *files]
    done = subprocess.run([sys.executable, "-c", LOADER, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(done.stdout.splitlines()[-1])
    assert list(results) == list(files)
    for file, result in results.items():
        outputs, losses = expected[file]
        np.testing.assert_array_equal(np.float32(result["predicted"]), outputs, err_msg=file)
        np.testing.assert_allclose(result["loss"], losses, rtol=1e-4, err_msg=file)


def test_there_is_a_stand_in_for_every_layer_that_quantizes():
    q_model = keras_dbq.quantize_model(nets.resnet(), keras_dbq.DBQScheme(), nets.pictures())
    registered = {keras.utils.get_registered_name(type(layer)) for layer in q_model.layers}
    assert {name for name in registered if not hasattr(keras.layers, name)} <= set(_stand_ins.LAYERS)
    for name in _stand_ins.LAYERS:
        assert serialization.custom_objects()[name.rpartition(">")[2]].__name__ == name.rpartition(">")[2]


def test_scheme_config_is_json():
    scheme = keras_dbq.DBQScheme(overrides={keras.layers.Dense: {"skip": True}})
    assert json.loads(json.dumps(scheme.get_config()))["branches"] == 2
