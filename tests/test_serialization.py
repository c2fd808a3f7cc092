"""Saving and loading in every format, in a fresh process, and training on with the same loss."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from tests import nets

REPOSITORY = Path(__file__).resolve().parent.parent
LOADER = """
import json, sys
import numpy as np
import keras_dbq
sys.path.append(sys.argv[5])
from keras_dbq.compat import keras
path, kind, data = sys.argv[1:4]
stored = np.load(data)
if kind == "weights":
    from tests import nets
    model = keras_dbq.quantize_model(getattr(nets, sys.argv[4])(), keras_dbq.DBQScheme(thresholds="trained"),
                                     nets.pictures(seed=77))
    model.load_weights(path)
    model.compile("sgd", "mse")
else:
    import keras_dbq.quantize
    model = keras.models.load_model(path)
predicted = model.predict(stored["x"], verbose=0)
loss = model.fit(stored["x"], stored["y"], batch_size=16, shuffle=False, epochs=2, verbose=0).history["loss"]
print(json.dumps({"difference": float(np.abs(predicted - stored["predicted"]).max()), "loss": loss}))
"""


# Each takes a fresh process with TensorFlow; one network in every format, and two more in the usual one.
CASES = [
    (nets.resnet, "m.keras", "model"),
    (nets.resnet, "m.h5", "model"),
    (nets.resnet, "saved_model", "model"),
    (nets.resnet, "m.weights.h5", "weights"),
    (nets.resnet, "checkpoint", "weights"),
    (nets.mobilenet_v1, "m.keras", "model"),
    pytest.param(nets.mobilenet_v1, "m.h5", "model", marks=pytest.mark.slow),
    pytest.param(nets.shufflenet, "m.keras", "model", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("make, file, kind", CASES, ids=lambda value: getattr(value, "__name__", value))
def test_round_trip_in_a_fresh_process(make, file, kind, tmp_path):
    q_model = keras_dbq.quantize_model(make(), keras_dbq.DBQScheme(thresholds="trained"), nets.pictures())
    x = nets.pictures(32, seed=4)
    y = np.random.default_rng(5).normal(size=(32, q_model.output_shape[-1])).astype(np.float32)
    # tf_keras does not restore an optimizer's slots from a SavedModel (a float model's neither), weights have none.
    stateful = kind == "model" and file != "saved_model"
    q_model.compile("adam" if stateful else "sgd", "mse")
    q_model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    if kind == "weights":
        q_model.save_weights(tmp_path / file)
    else:
        q_model.save(tmp_path / file)
    predicted = q_model.predict(x, verbose=0)
    np.savez(tmp_path / "data.npz", x=x, y=y, predicted=predicted)
    loss = q_model.fit(x, y, batch_size=16, shuffle=False, epochs=2, verbose=0).history["loss"]
    arguments = [str(tmp_path / file), kind, str(tmp_path / "data.npz"), make.__name__, str(REPOSITORY)]
    done = subprocess.run([sys.executable, "-c", LOADER, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["difference"] == 0
    np.testing.assert_allclose(result["loss"], loss, rtol=1e-4)


def test_configs_round_trip():
    from keras_dbq import quantize_configs, quantizers

    config = quantize_configs.Conv2DQuantizeConfig(
        quantizers.TernaryBranchQuantizer(branches=1, thresholds="trained", temperature=3.0),
        quantizers.ActivationQuantizer(unsigned=True, ema_decay=0.7),
        note="a note",
    )
    again = quantize_configs.Conv2DQuantizeConfig.from_config(json.loads(json.dumps(config.get_config())))
    assert again == config
    assert again.with_output(None) != config


def test_scheme_config_is_json():
    scheme = keras_dbq.DBQScheme(overrides={keras.layers.Dense: {"skip": True}})
    assert json.loads(json.dumps(scheme.get_config()))["branches"] == 2
