"""Factors and offsets per channel as 1x1 depthwise convolutions, whatever the rank and the axes."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.schemes.rewrite import rewrite
from tests.property.networks import enliven

L = keras.layers
RESHAPED = {"DepthwiseConv2D": 1, "Reshape": 2}
CASES = {
    "last axis": ((4, 5, 3), lambda: L.BatchNormalization(), {"DepthwiseConv2D": 1}),
    "vector": ((6,), lambda: L.BatchNormalization(scale=False), RESHAPED),
    "sequence": ((5, 3), lambda: L.BatchNormalization(), RESHAPED),
    "five axes": ((2, 3, 4, 3), lambda: L.Rescaling(0.5, -1), RESHAPED),
    "first axis": ((4, 5, 3), lambda: L.BatchNormalization(axis=1), {"DepthwiseConv2D": 1, "Permute": 2}),
    "two axes": ((4, 5, 3), lambda: L.BatchNormalization(axis=[1, 3]), {**RESHAPED, "Permute": 2}),
    "one mean": ((4, 3), lambda: L.Normalization(axis=None, mean=1.0, variance=4.0), RESHAPED),
    "inverse": ((4, 3), lambda: L.Normalization(mean=1.0, variance=4.0, invert=True), RESHAPED),
}  # fmt: skip


@pytest.mark.parametrize("shape, make, expected", CASES.values(), ids=list(CASES))
def test_the_function_stays(shape, make, expected):
    inputs = keras.Input(shape)
    model = enliven(keras.Model(inputs, make()(inputs)))
    new = rewrite(model, {layer.name for layer in model.layers}).model
    kinds = [type(layer).__name__ for layer in new.layers[1:]]
    assert {kind: kinds.count(kind) for kind in kinds} == expected
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    np.testing.assert_allclose(new(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape, places, width", [((96, 96, 3), 288, 96), ((12, 8, 1), 1, 96), ((11, 13, 3), 0, 0)])
def test_few_channels_stand_for_several_places_at_once(shape, places, width):
    """What is as fast as the map allows; 11 x 13 has no divisor that makes 3 channels about 96."""
    inputs = keras.Input(shape)
    model = keras.Model(inputs, L.Normalization(mean=1.0, variance=4.0, name="normalization")(inputs))
    x = np.random.default_rng(0).normal(1, 2, (8, *shape)).astype(np.float32)
    q_model = keras_dbq.quantize_model(model, keras_dbq.FATScheme(), x)
    layer = q_model.get_layer("quant_normalization")
    assert layer.output_shape[1:] == ((places, 1, width) if places else shape)
    assert not layer.trainable_weights  # the copies of a factor stay equal
    report = keras_dbq.verify(q_model, keras_dbq.export_tflite(q_model, None, strict=True).data, x, float_model=model)
    assert report.passed and report.float_error < 0.02
