"""TSQScheme: codes behind each ReLU, exact files, both steps, networks that cannot be brought to the form."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.quantizers import CodeQuantizer
from keras_dbq.wrapping import wrappers
from tests import nets

L = keras.layers
X = np.random.default_rng(0).normal(size=(64, 12, 12, 3)).astype(np.float32)


def network(affine=False, norm=True):
    keras.utils.set_random_seed(0)
    inputs = x = keras.Input((12, 12, 3), name="image")
    for i, filters in enumerate((8, 12, 12)):
        x = L.Conv2D(filters, 3, padding="same", use_bias=not norm, name=f"conv{i}")(x)
        x = L.BatchNormalization(scale=affine, center=affine, name=f"norm{i}")(x) if norm else x
        x = L.ReLU(name=f"relu{i}")(x)
        x = L.MaxPooling2D(name=f"pool{i}")(x) if i else x
    model = keras.Model(inputs, L.Dense(4, name="head")(L.Flatten()(x)), name="net")
    return nets.randomize(model) if affine else calibrated(model)


def calibrated(model):
    """Moving statistics of the pictures, so that each batch norm's output is normalised."""
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            y = keras.Model(model.input, layer.input)(X)
            layer.set_weights([np.mean(y, (0, 1, 2)), np.var(y, (0, 1, 2))])
    return model


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sparsity": 0.5},
        {"activation_bits": 4, "sparsity": 0.75, "branches": 2},
        {"activation_bits": 1, "sparsity": None},
        {"codes": "data", "sparsity": 0.7},
        {"branches": 0},
    ],
)
def test_the_whole_way(options):
    """quantize_model, fit, export, verify: packed = int8 = numpy, and every tensor behind a ReLU holds few codes."""
    scheme = keras_dbq.TSQScheme(**options)
    q_model = keras_dbq.quantize_model(network(), scheme, calibration_data=X)
    q_model.compile(keras.optimizers.SGD(1e-3), "mse")
    q_model.fit(X, np.zeros((len(X), 4)), epochs=1, verbose=0)
    report = keras_dbq.export_tflite(q_model, None, strict=True)
    result = keras_dbq.verify(q_model, report.data, X[:32], top1_threshold=0)
    assert result.passed
    bits, found = options.get("activation_bits", 2), 0
    for tensor in keras_dbq.reference.Engine(report.data).model.tensors:
        single = tensor.quantization is not None and tensor.quantization.scale.size == 1
        found += single and int(tensor.zero_point) == 128 - 2**bits
    assert found >= 3


def test_what_gets_what():
    q_model = keras_dbq.quantize_model(network(), keras_dbq.TSQScheme(sparsity=0.5), calibration_data=X)
    coded = [
        t.layer_name for layer in q_model.layers if (t := wrappers.quantized_output(layer)) and t.quantizer.bits == 2
    ]
    assert coded == ["relu0_codes", "relu1_codes", "relu2_codes"]
    branches = {
        w.layer.name: wrappers.quantized_weights(w)[0].quantizer.branches
        for w in q_model.layers
        if wrappers.quantized_weights(w)
    }
    assert branches == {"conv0": 0, "conv1": 1, "conv2": 1, "head": 0}
    rounded = keras_dbq.quantize_model(network(), keras_dbq.TSQScheme(), calibration_data=X)
    coded = [
        t.layer_name for layer in rounded.layers if (t := wrappers.quantized_output(layer)) and t.quantizer.bits == 2
    ]
    assert coded == ["relu0", "relu1", "relu2"]


def test_step_2_from_step_1():
    """Ranges of the trained model, and its float weights but for a rounding; nearer to its outputs than a fit."""
    step_1 = keras_dbq.quantize_model(network(), keras_dbq.TSQScheme(branches=0), calibration_data=X)
    step_1.compile(keras.optimizers.SGD(1e-2), "mse")
    step_1.fit(X, np.ones((len(X), 4)), epochs=2, verbose=0)
    wanted = step_1.predict(X, verbose=0)

    step_2 = keras_dbq.quantize_model(network(), keras_dbq.TSQScheme(init="least_error"), calibration_data=X)
    fitted = np.square(step_2.predict(X, verbose=0) - wanted).mean()
    result = keras_dbq.solve_ternary(step_2, step_1, X)
    assert list(result.errors) == ["conv1", "conv2"] and all(a < b for b, a in result.errors.values())
    ranges = {v.name: v.numpy() for v in step_1.weights if "_high" in v.name}
    assert ranges and all(np.array_equal(v, ranges[v.name]) for v in step_2.weights if v.name in ranges)
    # The first layer has the inputs of step 1, so its float weights are the trained ones; they are rounded to 8 bits,
    # each together with the others, so that one may move by more than half a step.
    (trained,), (solved,) = ([v.numpy() for v in m.weights if "conv0/kernel" in v.name] for m in (step_1, step_2))
    step = np.abs(trained).max(axis=(0, 1, 2)) / 127
    assert (np.abs(solved - trained) <= 3 * step).all() and not np.array_equal(solved, trained)
    assert np.square(step_2.predict(X, verbose=0) - wanted).mean() < 0.5 * fitted
    other = keras_dbq.quantize_model(network(), keras_dbq.TSQScheme(3, None, init="least_error"), calibration_data=X)
    with pytest.raises(ValueError, match="expected an activation quantized as in step 1, got another quantizer"):
        keras_dbq.solve_ternary(other, step_1, X)


@pytest.mark.parametrize(
    "model, why",
    [
        (network(affine=True), "layer 'relu0' .* a batch norm without scale and shift, and 'norm0' has them; use"),
        (network(norm=False), "layer 'relu0' .* need a batch norm right before the ReLU, and there is none; use"),
    ],
)
def test_a_network_that_is_not_normalised(model, why):
    with pytest.raises(ValueError, match=why) as error:
        keras_dbq.quantize_model(model, keras_dbq.TSQScheme(), calibration_data=X)
    assert "\n" not in str(error.value)
    assert len(keras_dbq.check(model, keras_dbq.TSQScheme())) == 3
    assert not keras_dbq.check(model, keras_dbq.TSQScheme(codes="data"))
    skipping = keras_dbq.TSQScheme(on_unsupported="skip", init="least_error")
    q_model = keras_dbq.quantize_model(model, skipping, calibration_data=X)
    tensors = [t for layer in q_model.layers if (t := wrappers.quantized_output(layer))]
    assert not any(isinstance(t.quantizer, CodeQuantizer) for t in tensors)


def test_an_obstacle_has_the_name_of_the_users_layer():
    inputs = keras.Input((12, 12, 3))
    x = L.Conv2D(4, 3, activation="relu", name="whole")(inputs)
    model = keras.Model(inputs, L.Conv2D(2, 1, name="last")(x))
    with pytest.raises(ValueError, match="layer 'whole' of type Conv2D .* there is none"):
        keras_dbq.quantize_model(model, keras_dbq.TSQScheme(), calibration_data=X)
    for sparsity, name in ((None, "whole"), (0.7, "whole_codes")):
        scheme = keras_dbq.TSQScheme(sparsity=sparsity, codes="data", init="least_error")
        q_model = keras_dbq.quantize_model(model, scheme, calibration_data=X)
        tensors = [t for layer in q_model.layers if (t := wrappers.quantized_output(layer))]
        assert [t.layer_name for t in tensors if isinstance(t.quantizer, CodeQuantizer)] == [name]
        report = keras_dbq.export_tflite(q_model, None, strict=True)
        assert keras_dbq.verify(q_model, report.data, X[:20], top1_threshold=0).passed


def test_options_are_kept_and_checked():
    config = keras_dbq.TSQScheme(3, 0.7, branches=0, codes="data").get_config()
    assert {k: config[k] for k in ("activation_bits", "sparsity", "branches", "codes", "init")} == {
        "activation_bits": 3, "sparsity": 0.7, "branches": 0, "codes": "data", "init": "least_error"
    }  # fmt: skip
    with pytest.raises(ValueError, match="activation bits: expected an integer from 1 to 4, got 8"):
        keras_dbq.TSQScheme(8)
    with pytest.raises(ValueError, match="codes: expected one of 'gaussian', 'data', got 'x'"):
        keras_dbq.TSQScheme(codes="x")
    with pytest.raises(ValueError, match="expects calibration_data"):
        keras_dbq.quantize_model(network(), keras_dbq.TSQScheme())
