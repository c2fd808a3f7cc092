"""A model of mixed precision as one of float32."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.wrapping.precision import in_float32
from tests import nets


def quantized(policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        return keras_dbq.quantize_model(nets.mobilenet_v1(), keras_dbq.DBQScheme(), nets.pictures(16))
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_a_model_in_float32_is_itself():
    q_model = quantized("float32")
    assert in_float32(q_model) is q_model


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_the_same_weights_in_float32(policy):
    q_model = quantized(policy)
    keras_dbq.freeze(q_model, ranges=True, layers="stem")
    copy = in_float32(q_model)
    assert {layer.compute_dtype for layer in q_model.layers} > {"float32"}
    assert {layer.compute_dtype for layer in copy.layers} == {"float32"}
    for a, b in zip(q_model.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    x = nets.pictures(4)
    assert copy(x).dtype == np.float32 and np.abs(copy(x) - np.float32(q_model(x))).max() < 0.1
    assert keras_dbq.export_tflite(copy, None).data == keras_dbq.export_tflite(q_model, None).data
