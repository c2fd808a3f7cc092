"""Configs: tfmot's way of annotating layers, and layers that do not fit."""

import pytest

import keras_dbq
from keras_dbq import quantizers
from keras_dbq.compat import QuantizeWrapperV2, keras, tfmot
from keras_dbq.wrapping import quantize_configs, wrappers
from tests import nets


def test_tfmot_annotated_layers_only():
    def annotate(layer):
        if layer.name == "a0":
            config = quantize_configs.Conv2DQuantizeConfig(quantizers.TernaryBranchQuantizer(branches=1))
            return tfmot.quantization.keras.quantize_annotate_layer(layer, config)
        return layer

    annotated = keras.models.clone_model(nets.resnet(), clone_function=annotate)
    with keras_dbq.quantize_scope():
        q_model = tfmot.quantization.keras.quantize_apply(annotated, keras_dbq.DBQScheme(branches=2))
    keras_dbq.initialize(q_model, nets.pictures())
    quantized = [w.quantizer.branches for layer in q_model.layers for w in wrappers.quantized_weights(layer)]
    assert quantized == [1]
    outputs = [
        wrappers.quantized_output(layer).layer_name for layer in q_model.layers if wrappers.quantized_output(layer)
    ]
    assert outputs == ["stem_relu", "a0_relu"]  # what it reads and what it writes


def test_config_that_does_not_fit_its_layer():
    def annotate(layer):
        config = quantize_configs.DenseQuantizeConfig() if layer.name == "a0" else None
        return tfmot.quantization.keras.quantize_annotate_layer(layer, config) if config else layer

    annotated = keras.models.clone_model(nets.resnet(), clone_function=annotate)
    with keras_dbq.quantize_scope(), pytest.raises(ValueError, match="DenseQuantizeConfig: expected a layer of type"):
        tfmot.quantization.keras.quantize_apply(annotated, keras_dbq.DBQScheme())


def test_wrappers_are_tfmots():
    q_model = nets.quantize(nets.resnet())
    assert isinstance(q_model.get_layer("quant_a0"), QuantizeWrapperV2)
