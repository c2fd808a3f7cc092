"""QuantizeConfigs: which tensors of one layer get which quantizer."""

import json

import pytest

from keras_dbq.compat import keras
from keras_dbq.quantizers import ActivationQuantizer, LinearWeightQuantizer, TernaryBranchQuantizer
from keras_dbq.wrapping import quantize_configs as configs
from keras_dbq.wrapping.placed import PlacedQuantizer

L = keras.layers


def test_configs_round_trip():
    config = configs.Conv2DQuantizeConfig(
        TernaryBranchQuantizer(branches=1, thresholds="trained", temperature=3.0),
        ActivationQuantizer(unsigned=True, ema_decay=0.7),
        note="a note",
    )
    again = configs.Conv2DQuantizeConfig.from_config(json.loads(json.dumps(config.get_config())))
    assert again == config
    assert again.with_output(None) != config


def test_defaults_are_ternary_where_the_kernel_is():
    assert configs.DenseQuantizeConfig().weights["kernel"].branches == 2
    assert configs.DepthwiseConv2DQuantizeConfig().weights["depthwise_kernel"].depthwise
    separable = configs.SeparableConv2DQuantizeConfig().weights
    assert (separable["depthwise_kernel"].bits, separable["pointwise_kernel"].branches) == (8, 2)
    assert configs.OutputQuantizeConfig().weights == {}


def test_each_wrapper_gets_quantizers_in_a_place_of_their_own():
    config = configs.DenseQuantizeConfig(LinearWeightQuantizer(), ActivationQuantizer())
    layer = L.Dense(2)
    layer.build((None, 3))
    pairs = [config.get_weights_and_quantizers(layer)[0] for _ in range(2)]
    assert all(kernel is layer.kernel and isinstance(placed, PlacedQuantizer) for kernel, placed in pairs)
    assert pairs[0][1] is not pairs[1][1] and pairs[0][1].quantizer is pairs[1][1].quantizer
    assert config.get_output_quantizers(layer)[0].quantizer is config.output


def test_a_layer_that_does_not_fit():
    with pytest.raises(ValueError, match="DenseQuantizeConfig: expected a layer of type Dense, got Conv2D 'c'"):
        configs.DenseQuantizeConfig().get_weights_and_quantizers(L.Conv2D(1, 1, name="c"))


def test_the_config_of_a_kernel_layer():
    assert configs.kernel_config_class(L.Conv2D(1, 1)) is configs.Conv2DQuantizeConfig
    assert configs.kernel_config_class(L.DepthwiseConv2D(1)) is configs.DepthwiseConv2DQuantizeConfig
    assert configs.kernel_config_class(L.Conv2DTranspose(1, 1)) is None
