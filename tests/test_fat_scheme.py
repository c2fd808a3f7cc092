"""FATScheme: linear weights everywhere on trained thresholds, batch norm folded, exported as trained."""

import json

import numpy as np
import pytest

import keras_dbq
from keras_dbq import quantizers, wrappers
from keras_dbq.compat import QuantizeWrapper, keras, tfmot
from tests import nets


def quantize(make=nets.mobilenet_v1, **options):
    keras.utils.set_random_seed(0)
    return keras_dbq.quantize_model(make(), keras_dbq.FATScheme(**options), calibration_data=nets.pictures())


def weight_quantizers(q_model):
    return {
        wrappers.inner(layer).name: w
        for layer in wrappers.all_layers(q_model)
        for w in wrappers.quantized_weights(layer)
    }


@pytest.mark.parametrize("make", [nets.mobilenet_v1, nets.preactivation, nets.separable, nets.nested])
def test_networks_are_folded_quantized_and_exported_as_trained(make):
    q_model = quantize(make)
    keras.utils.set_random_seed(0)
    folded = keras_dbq.fold_batch_norms(make())
    inner = [wrappers.inner(layer) for layer in wrappers.all_layers(q_model)]
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in inner)
    found = weight_quantizers(q_model)
    assert found and all(isinstance(w.quantizer, quantizers.LinearWeightQuantizer) for w in found.values())
    x = nets.pictures(32)  # the first of those that calibrated
    np.testing.assert_allclose(q_model.predict(x, verbose=0), folded.predict(x, verbose=0), atol=0.1)
    report = keras_dbq.export_tflite(q_model, None, "int8")
    assert keras_dbq.verify(q_model, report.data, x).passed


@pytest.mark.parametrize("mode", ["vector", "scalar"])
def test_modes_have_one_threshold_a_filter_or_a_tensor(mode):
    sizes = {
        name: (w.variables["threshold_factor"].shape[0], w.variable.shape)
        for name, w in weight_quantizers(quantize(mode=mode)).items()
    }
    assert sizes["stem"][0] == (8 if mode == "vector" else 1)
    assert sizes["dw1"][0] == (8 if mode == "vector" else 1)
    assert sizes["head"][0] == (4 if mode == "vector" else 1)


def test_bits_and_overrides():
    q_model = quantize(bits=4, overrides={"dw*": {"bits": 8}, "head": {"skip": True}, "pw0": {"per_channel": False}})
    found = weight_quantizers(q_model)
    assert {name: w.quantizer.bits for name, w in found.items()} == {"stem": 4, "dw0": 8, "pw0": 4, "dw1": 8, "pw1": 4}
    assert not found["pw0"].quantizer.per_channel and found["pw1"].quantizer.per_channel
    assert np.abs(keras_dbq.integer_weights(q_model.get_layer("quant_pw1")).values).max() == 7


def test_symmetric_is_about_activations():
    for symmetric in (True, False):
        q_model = quantize(nets.resnet, symmetric=symmetric)
        tensors = [t for layer in wrappers.all_layers(q_model) if (t := wrappers.quantized_output(layer))]
        points = {t.quantizer.grid(t.variables)[1] for t in tensors}
        assert (points <= {0, -128}) == symmetric


def test_tfmots_own_way():
    keras.utils.set_random_seed(0)
    model = nets.resnet()
    with keras_dbq.quantize_scope():
        annotated = tfmot.quantization.keras.quantize_annotate_model(model)
        q_model = tfmot.quantization.keras.quantize_apply(annotated, keras_dbq.FATScheme())
    keras_dbq.initialize(q_model, nets.pictures())
    assert any(isinstance(layer, QuantizeWrapper) for layer in q_model.layers)
    x = nets.pictures(8, seed=1)
    np.testing.assert_allclose(
        q_model.predict(x, verbose=0), quantize(nets.resnet).predict(x, verbose=0), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"mode": "tensor"}, ValueError, "mode: expected one of 'vector', 'scalar'"),
        ({"bits": 1}, ValueError, "bits: expected an integer from 2 to 8"),
        ({"symmetric": 1}, TypeError, "symmetric: expected True or False"),
        ({"overrides": {"a": {"branches": 1}}}, ValueError, "expected options among bits, per_channel, skip"),
        ({"on_unsupported": "ignore"}, ValueError, "on_unsupported: expected one of"),
    ],
)
def test_errors(options, error, message):
    with pytest.raises(error, match=message):
        keras_dbq.FATScheme(**options)


def test_config_is_json():
    config = json.loads(json.dumps(keras_dbq.FATScheme("scalar", True, 4).get_config()))
    assert (config["mode"], config["symmetric"], config["bits"]) == ("scalar", True, 4)
