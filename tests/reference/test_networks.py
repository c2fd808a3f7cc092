"""Small networks of every family, through the stock converter: the engine gives the interpreter's codes.

What the converter writes around the layers (pads, slices, shuffles, gates, reshapes of an unknown batch) comes with it.
"""

import numpy as np
import pytest

from keras_dbq.reference import Engine
from tests.reference.tflite_builder import assert_same_codes, interpret


def mobilenet_v3_like(layers):
    """Hard swish, squeeze-and-excite gates, a residual, stride-2 padding as Keras applications write it."""
    x = inputs = layers.Input((33, 29, 3))
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.Conv2D(12, 3, strides=2, padding="valid")(x)
    x = x * layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)
    y = layers.DepthwiseConv2D(5, padding="same")(x)
    y = layers.BatchNormalization()(y)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(y)
    gate = layers.Conv2D(4, 1, activation="relu")(gate)
    gate = layers.Conv2D(12, 1)(gate)
    gate = layers.ReLU(6.0)(gate + 3.0) * (1.0 / 6.0)
    y = layers.Conv2D(12, 1)(y * gate)
    x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling2D()(x)
    return inputs, layers.Softmax()(layers.Dense(7)(layers.Dropout(0.2)(x)))


def shuffle_net_like(layers):
    """Channel split, grouped shuffle by reshape and transpose, concatenation, max pooling, a sigmoid head."""
    x = inputs = layers.Input((24, 24, 3))
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    left, right = x[..., :8], x[..., 8:]
    right = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(right)
    right = layers.Conv2D(8, 1, activation="relu")(right)
    x = layers.Concatenate()([left, right])
    x = layers.Reshape((12, 12, 2, 8))(x)
    x = layers.Permute((1, 2, 4, 3))(x)
    x = layers.Reshape((12, 12, 16))(x)
    x = layers.LeakyReLU(0.1)(x)
    x = layers.AveragePooling2D(4)(x)
    x = layers.Flatten()(x)
    return inputs, [layers.Dense(3, activation="sigmoid")(x), layers.Dense(5, activation="tanh")(x)]


def resnet_like(layers):
    """A shortcut that subsamples and pads channels (ResNet-20's), dilation, upsampling, a linear dense output."""
    x = inputs = layers.Input((20, 20, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    y = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(x)
    y = layers.Conv2D(16, 3, padding="same", dilation_rate=2)(y)
    shortcut = x[:, ::2, ::2, :]
    shortcut = layers.ZeroPadding2D(((0, 0), (0, 0)))(shortcut)
    shortcut = layers.Concatenate()([shortcut * 0.0, shortcut])
    x = layers.ReLU()(layers.Subtract()([y, shortcut]))
    x = layers.UpSampling2D(2)(x)
    x = layers.SeparableConv2D(6, 3, padding="valid")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return inputs, layers.Dense(10)(x)


@pytest.fixture(scope="module")
def convert():
    """Network function -> (bytes of its int8 file, random float pictures)."""
    tf = pytest.importorskip("tensorflow")
    import tf_keras

    def made(network, float_edges=False):
        tf_keras.utils.set_random_seed(1)
        inputs, outputs = network(tf_keras.layers)
        model = tf_keras.Model(inputs, outputs)
        rng = np.random.default_rng(0)
        for layer in model.layers:  # batch norms and biases that are not trivial
            layer.set_weights([w + rng.uniform(0, 0.3, w.shape) if w.ndim == 1 else w for w in layer.get_weights()])
        pictures = rng.normal(0.3, 1, (12, *model.input_shape[1:])).astype(np.float32)
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([p[None]] for p in pictures)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.float32 if float_edges else tf.int8
        return converter.convert(), pictures

    return made


@pytest.mark.parametrize("network", [mobilenet_v3_like, shuffle_net_like, resnet_like])
def test_networks(network, convert):
    model, pictures = convert(network)
    for rounding in ("xnnpack", "builtin"):
        engine = Engine(model, rounding)
        tensor = engine.inputs[0]
        codes = np.clip(np.rint(pictures / tensor.scale) + tensor.zero_point, -128, 127).astype(np.int8)
        expected, got, real = interpret(model, codes, rounding), engine.run(codes), engine.run(pictures)
        if not isinstance(expected, list):
            expected, got, real = [expected], [got], [real]
        for e, g, r, t in zip(expected, got, real, engine.outputs, strict=True):
            assert_same_codes(e, g)
            assert len(np.unique(e)) > 5  # a saturated network would prove nothing
            assert np.array_equal(r, (g.astype(np.float32) - np.float32(t.zero_point)) * t.scale)


def test_float_edges_of_a_network(convert):
    """A file with float input and output: QUANTIZE and DEQUANTIZE at its ends."""
    model, pictures = convert(resnet_like, float_edges=True)
    for rounding in ("xnnpack", "builtin"):
        assert np.array_equal(interpret(model, pictures, rounding), Engine(model, rounding).run(pictures))
