"""Weights as arguments of the converter's function: which operator has whose, and what stands in the file."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras, tf
from keras_dbq.export import arguments
from keras_dbq.export.kernels import Kernel
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.operators import channel_columns
from tests import nets
from tests.export.oracle import kernels, quantized

L = keras.layers
RNG = np.random.default_rng(0)


def kernel(name, *shape):
    columns = RNG.integers(-127, 128, (int(np.prod(shape[:-1])), shape[-1])).astype(np.int8)
    return Kernel(name, columns, np.full(shape[-1], 0.5, np.float32), np.zeros(shape[-1]))


def converted(function, *shapes):
    """The converter's ModelT of a function of x [N, 4, 4, 3] and weights of these shapes."""
    specs = [tf.TensorSpec([None, 4, 4, 3]), *(tf.TensorSpec(shape) for shape in shapes)]
    concrete = tf.function(function, autograph=False).get_concrete_function(*specs)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    converter.experimental_lower_to_saved_model = False
    return fb.load_model(converter.convert())


def everything(x, conv, depthwise, dense):
    x = tf.nn.bias_add(tf.nn.conv2d(x, conv, 1, "SAME"), np.ones(5, np.float32))
    x = tf.nn.depthwise_conv2d(x, depthwise, [1, 1, 1, 1], "VALID")
    return tf.nn.bias_add(tf.matmul(tf.reshape(x, [-1, 2 * 2 * 10]), dense), np.ones(7, np.float32))


SHAPES = (3, 3, 3, 5), (3, 3, 5, 2), (40, 7)


def test_each_operator_gets_its_argument_and_nothing_reorders_it_any_more():
    given = [kernel("conv", *SHAPES[0]), kernel("depthwise", 3, 3, 10), kernel("dense", *SHAPES[2])]
    model = converted(everything, *SHAPES)
    attached = arguments.attach(model, given)
    graph = model.subgraphs[0]
    assert len(graph.inputs) == 1 and set(k.name for k in attached.values()) == {"conv", "depthwise", "dense"}
    found = [(o, fb.op_name(model, o)) for o in graph.operators if int(o.inputs[1]) in attached]
    assert [name for _, name in found] == ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"]
    assert "TRANSPOSE" not in [fb.op_name(model, o) for o in graph.operators]
    for operator, name in found:
        own = attached[int(operator.inputs[1])]
        arguments.write_float(model, operator, own)
        written = channel_columns(fb.constant(model, int(operator.inputs[1])), name)
        np.testing.assert_array_equal(written, own.float_columns)


@pytest.mark.parametrize("change", [lambda w: 2 * w, lambda w: tf.transpose(w, [1, 0, 2, 3])])
def test_weights_that_are_computed_are_nobodys(change):
    model = converted(lambda x, w: tf.nn.conv2d(x, change(w), 1, "SAME"), SHAPES[0])
    assert not arguments.attach(model, [kernel("conv", *SHAPES[0])])


def test_an_operator_in_float_keeps_its_float_weights():
    """Its input has no grid, so that it computes in float, with the values that the integers stand for."""
    inputs = keras.Input(nets.SHAPE)
    x = L.Conv2D(4, 3, name="a", activation="relu")(inputs)
    x = L.Lambda(lambda t: tf.cumsum(t, axis=1), name="sum")(x)
    q_model = quantized(keras.Model(inputs, L.Conv2D(3, 1, name="b")(x)), on_unsupported="skip")
    data = keras_dbq.export_tflite(q_model, None).data
    weights = kernels(data)
    assert weights and keras_dbq.verify(q_model, data, nets.pictures(8), top1_threshold=0).passed


@pytest.mark.parametrize("units", [1, 3])
@pytest.mark.parametrize("use_bias", [False, True])
def test_a_dense_layer_is_one_operator_with_and_without_bias(units, use_bias):
    model = keras.Sequential([keras.Input((6,)), L.Dense(units, use_bias=use_bias, name="dense")])
    x = RNG.normal(size=(16, 6)).astype(np.float32)
    q_model = keras_dbq.quantize_model(model, keras_dbq.FATScheme(), calibration_data=x)
    data = keras_dbq.export_tflite(q_model, None, strict=True).data
    assert [fb.op_name(fb.load_model(data), o) for o in fb.load_model(data).subgraphs[0].operators] == [
        "FULLY_CONNECTED"
    ]
    assert kernels(data)["dense"][2].any() == (use_bias and bool(model.layers[-1].bias.numpy().any()))
