"""All of keras.applications: equal layers and answers, and weights that fit tf_keras' network of the same name."""

import inspect

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from tests import nets
from tests.keras3.networks import answers, keras_3

BUILDERS = {n: f for n, f in vars(keras_3.applications).items() if inspect.isfunction(f)}
IN_CI = {"ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "InceptionV3", "MobileNetV3Small", "NASNetMobile"}
SMALLEST = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}  # others take 32 pixels


def built(name, size):
    """With random weights, and batch norms that do something."""
    keras_3.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    model = BUILDERS[name](weights=None, input_shape=(size, size, 3), classes=10)
    draw = {
        "gamma": lambda shape: rng.uniform(0.5, 1.5, shape),
        "beta": lambda shape: rng.normal(0, 0.3, shape),
        "moving_mean": lambda shape: rng.normal(0, 0.3, shape),
        "moving_variance": lambda shape: rng.uniform(0.3, 2, shape),
    }
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([draw[w.name](w.shape) for w in layer.weights])
    return model


# With random weights one rounding of the input changes Keras 3's own class, which the test asserts; so answers cannot
# be compared, and `from_keras3`'s comparison of each layer is what holds.
CHAOTIC = {"EfficientNetV2M"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in IN_CI else pytest.mark.survey) for n in sorted(BUILDERS)]
)
def test_converts_to_the_same_network(name):
    size = SMALLEST.get(name, 32)
    model = built(name, size)
    new = keras_dbq.from_keras3(model)
    x = nets.pictures(2, shape=(size, size, 3)) * 40 + 100
    a, b = answers(model, x)[0], answers(new, x)[0]
    if name in CHAOTIC:
        assert np.abs(answers(model, (x * (1 + 2e-7)).astype(np.float32))[0] - a).max() > 0.5
    else:
        np.testing.assert_allclose(a, b, atol=1e-2)  # of softmax; rounding adds up here, `from_keras3` compares layers
    old_names = {layer.name for layer in model.layers}
    assert old_names <= {layer.name for layer in new.layers} and model.count_params() == new.count_params()
    if hasattr(keras.applications, name):
        other = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)
        other.set_weights(new.get_weights())
        np.testing.assert_allclose(np.asarray(other(x)), b, atol=1e-6)
    keras_3.utils.clear_session()


@pytest.mark.slow
def test_mobilenet_v2_exports_strictly(tmp_path):
    model = built("MobileNetV2", 32)
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(branches=2), nets.pictures(8, shape=(32, 32, 3)))
    path = str(tmp_path / "m.tflite")
    keras_dbq.export_tflite(q_model, path, strict=True)
    assert keras_dbq.verify(q_model, path, nets.pictures(2, shape=(32, 32, 3))).passed
