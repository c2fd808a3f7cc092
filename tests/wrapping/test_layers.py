"""The layer that quantizes a tensor: config, freezing, another quantizer."""

import numpy as np
import pytest

from keras_dbq.compat import keras, tf
from keras_dbq.quantizers import ActivationQuantizer, announce, registry
from keras_dbq.wrapping.layers import QuantizeTensor
from tests.wrapping import tiny


def test_config_round_trip():
    layer = QuantizeTensor(ActivationQuantizer(bits=6, ranges="trained"), name="q")
    config = layer.get_config()
    assert config["quantizer"]["bits"] == 6 and "class_name" not in config["quantizer"]  # as in 0.1's files
    assert QuantizeTensor.from_config(config).get_config() == config
    assert layer.quantization_role == "output"


@pytest.mark.parametrize("frozen", [(), ("ranges",)])
def test_frozen_ranges_do_not_train(frozen):
    layer = QuantizeTensor(ActivationQuantizer(ranges="trained", frozen=frozen))
    layer(tf.zeros((2, 3)))
    assert tiny.short_names(layer.weights) == (
        ["tensor_low:0", "tensor_high:0", "tensor_width:0", "tensor_shift:0"]
        if frozen
        else ["tensor_width:0", "tensor_shift:0", "tensor_low:0", "tensor_high:0"]
    )
    assert len(layer.trainable_weights) == (0 if frozen else 2)


def test_ranges_move_in_training_only():
    layer = QuantizeTensor(ActivationQuantizer(ema_decay=0.5))
    x = tf.constant([[-2.0, 10.0]])
    layer(x, training=False)
    assert [float(v) for v in layer.weights] == [-6.0, 6.0]
    layer(x, training=True)
    assert [float(v) for v in layer.weights] == [-4.0, 8.0]


def test_another_quantizer(monkeypatch):
    monkeypatch.setattr(registry, "_CLASSES", dict(registry._CLASSES))

    @announce
    class Halving(ActivationQuantizer):
        def __call__(self, inputs, training, weights, **kwargs):
            return inputs / 2

    layer = QuantizeTensor(Halving())
    again = QuantizeTensor.from_config(layer.get_config())
    assert type(again.quantizer) is Halving
    np.testing.assert_array_equal(again(tf.constant([3.0])), [1.5])
    keras.utils.get_custom_objects().pop("keras_dbq>Halving")
