"""A quantizer in its place: the order of a wrapper's weights is the same in memory and in files."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import QuantizeWrapperV2, keras
from keras_dbq.quantizers import ActivationQuantizer, TernaryBranchQuantizer
from keras_dbq.wrapping import lookup
from keras_dbq.wrapping.quantize_configs import Conv2DQuantizeConfig
from tests.wrapping import tiny


def wrapped(built):
    """A convolution in a wrapper, built before it is wrapped or by the wrapper (as when a model is loaded)."""
    layer = keras.layers.Conv2D(4, 3, name="conv")
    if built:
        layer.build((None, 6, 6, 3))
    wrapper = QuantizeWrapperV2(layer, Conv2DQuantizeConfig(TernaryBranchQuantizer(), ActivationQuantizer()))
    wrapper(np.zeros((1, 6, 6, 3), np.float32))
    return wrapper


def test_the_order_of_weights_does_not_depend_on_when_the_layer_was_built():
    names = [tiny.short_names(wrapped(built).weights) for built in (True, False)]
    assert names[0] == names[1]
    # As 0.1 had it; files of it are read by this order.
    assert names[0] == [
        "kernel:0",
        "bias:0",
        "kernel_branch_scales:0",
        "kernel_thresholds:0",
        "optimizer_step:0",
        "kernel_pre_scale:0",
        "kernel_post_scale:0",
        "kernel_temperature:0",
        "output_low:0",
        "output_high:0",
    ]


@pytest.mark.parametrize("file", ["m.keras", "m.h5"])
def test_a_wrapper_without_any_quantizer_loads(file, tmp_path):
    """A kernel that stays float and whose output a later layer quantizes; 0.1 could not load the .keras file."""
    q_model = tiny.quantized(overrides={"middle": {"skip": True}})
    layer = q_model.get_layer("quant_middle")
    assert not lookup.quantized_weights(layer) and lookup.quantized_output(layer) is None
    assert any(v is layer.layer.kernel for v in q_model.trainable_weights)
    q_model.save(tmp_path / file)
    loaded = keras.models.load_model(tmp_path / file)
    x = tiny.pictures(4, seed=1)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), q_model.predict(x, verbose=0))
    assert tiny.short_names(loaded.weights) == tiny.short_names(q_model.weights)


def test_a_quantizer_knows_no_layer():
    """Nothing that a quantizer keeps after building, training and exporting leads to a layer or a variable."""
    q_model = tiny.quantized(keras_dbq.FATScheme())
    tiny.fit(q_model)
    keras_dbq.export_tflite(q_model, None, "int8")
    for layer in q_model.layers:
        output = lookup.quantized_output(layer)
        quantizers = [w.quantizer for w in lookup.quantized_weights(layer)] + ([output.quantizer] if output else [])
        for quantizer in quantizers:
            kept = {**vars(quantizer), **vars(getattr(quantizer, "_range", quantizer))}
            plain = (bool, int, float, str, tuple, dict, type(None))
            assert all(isinstance(value, plain) for name, value in kept.items() if name != "_range"), kept
