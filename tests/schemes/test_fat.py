"""FATScheme: linear weights everywhere on trained thresholds, batch norm folded, exported as trained."""

import json

import numpy as np
import pytest

import keras_dbq
from keras_dbq import quantizers, reference
from keras_dbq.compat import QuantizeWrapper, keras, tf, tfmot
from keras_dbq.wrapping import naming, wrappers
from keras_dbq.wrapping.bias import round_bias
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


@pytest.mark.parametrize("make", [nets.mobilenet_v1, nets.resnet, nets.mobilenet_v3, nets.shufflenet])
@pytest.mark.parametrize("options", [{"activation_bits": 4}, {"activation_bits": 6, "symmetric": True}])
def test_fewer_bits_of_activations_keep_to_their_codes_in_the_file(make, options):
    """Every inner tensor of the file stays among the top 2**bits codes, and the file computes what Keras computes."""
    q_model = quantize(make, **options)
    x = nets.pictures(24)
    data = keras_dbq.export_tflite(q_model, None, "int8").data
    assert keras_dbq.verify(q_model, data, x).passed
    _, tensors = reference.Engine(data).run(x * 3, all_tensors=True)  # louder than calibrated: codes saturate
    bottom = 128 - 2 ** options["activation_bits"]
    bits = {q.name: wrappers.quantized_output(q.node.layer).quantizer.bits for q in naming.quantized_outputs(q_model)}
    few = [name for name in bits if bits[name] < 8 and name in tensors]
    assert len(few) > 3 and bits["head"] == 8  # the network's answer
    for name in few:
        assert bottom <= tensors[name].min() < tensors[name].max() <= 127, name
    assert any(tensors[name].max() == 127 for name in few)


def test_biases_are_the_files_integers_before_any_export():
    q_model, x = quantize(nets.mobilenet_v1, bits=4), nets.pictures(24)
    rng = np.random.default_rng(0)
    for layer in q_model.layers:
        bias = wrappers.bias(layer)
        if bias is not None:
            bias.assign_add(rng.normal(0, 0.05, bias.shape))
    before = q_model.predict(x, verbose=0)
    kept = [wrappers.bias(layer).numpy() for layer in q_model.layers if wrappers.bias(layer) is not None]
    keras_dbq.export_tflite(q_model, None, "int8")
    moved = [wrappers.bias(layer).numpy() for layer in q_model.layers if wrappers.bias(layer) is not None]
    assert any((a != b).any() for a, b in zip(kept, moved, strict=True))
    np.testing.assert_array_equal(q_model.predict(x, verbose=0), before)


@pytest.mark.parametrize(
    "name",
    ["model.keras", pytest.param("model.h5", marks=pytest.mark.slow), pytest.param("saved", marks=pytest.mark.slow)],
)
def test_rounded_biases_train_and_survive_saving(name, tmp_path):
    q_model, x = quantize(nets.mobilenet_v1, bits=4), nets.pictures(24)
    bias = wrappers.bias(q_model.get_layer("quant_stem"))
    assert any(v is bias for v in q_model.trainable_variables)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(q_model(x, training=True) ** 2)
    assert np.abs(tape.gradient(loss, bias)).max() > 0
    expected = q_model.predict(x, verbose=0)
    q_model.save(tmp_path / name)
    with keras_dbq.quantize_scope():
        loaded = keras.models.load_model(tmp_path / name)
    np.testing.assert_allclose(loaded.predict(x, verbose=0), expected, atol=1e-6)


def test_round_bias_equals_its_formula():
    bias = tf.constant([0.1, -0.26, 1e9, 0.0])
    scale = tf.constant([0.01, 0.02, 1e-6, 0.5])
    with tf.GradientTape() as tape:
        tape.watch(bias)
        rounded = round_bias(bias, tf.constant(0.3), scale, 9)
    step = 0.3 * scale.numpy().astype(np.float64)
    expected = np.rint(bias.numpy() / step) * step
    expected[2] = 1e9  # beyond int32: the exporter raises the channel's scale instead
    np.testing.assert_allclose(rounded, expected, rtol=1e-6)
    np.testing.assert_array_equal(tape.gradient(rounded, bias), np.ones(4))


def test_symmetric_is_about_activations():
    for symmetric in (True, False):
        q_model = quantize(nets.resnet, symmetric=symmetric)
        tensors = [t for layer in wrappers.all_layers(q_model) if (t := wrappers.quantized_output(layer))]
        points = {t.quantizer.grid(t.variables)[1] for t in tensors}
        assert (points <= {0, -128}) == symmetric


@pytest.mark.slow
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
        ({"activation_bits": 3}, ValueError, "activation bits: expected an integer from 4 to 8"),
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
