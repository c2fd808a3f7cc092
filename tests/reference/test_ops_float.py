"""Operators in float32 against the stock runtime, within the tolerance that `verify` allows."""

import numpy as np
import pytest

from keras_dbq.compat import tf
from keras_dbq.reference import Engine
from keras_dbq.reference.ops_float import FLOAT_OPS, TOLERANCE, agrees

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(3, 3, 4, 6)).astype(np.float32)
EACH = RNG.normal(size=(3, 3, 4, 2)).astype(np.float32)
CUBE = RNG.normal(size=(3, 2, 3, 1, 4)).astype(np.float32)
MATRIX = RNG.normal(size=(4, 5)).astype(np.float32)
CASES = {
    "sums and products": lambda x: tf.nn.relu6((x + 1.5) * (x - 0.3)) / (tf.abs(x) + 1.0) - x,
    "extremes": lambda x: tf.maximum(tf.minimum(x, 0.5), -x),
    "powers": lambda x: tf.pow(tf.abs(x) + 0.1, 1.5) + tf.math.squared_difference(x, 0.25),
    "functions": lambda x: tf.exp(-tf.abs(x)) + tf.math.log(tf.abs(x) + 0.5) + tf.math.rsqrt(tf.abs(x) + 1.0),
    "more functions": lambda x: tf.sin(x) + tf.cos(x) + tf.sqrt(tf.abs(x)) + tf.square(x) + tf.tanh(x) + tf.sigmoid(x),
    "gelu": lambda x: tf.nn.gelu(x),
    "approximate gelu": lambda x: tf.nn.gelu(x, approximate=True),
    "activations": lambda x: tf.nn.elu(x) + tf.nn.leaky_relu(x, 0.3),
    "softmax": lambda x: tf.nn.softmax(x) + tf.nn.log_softmax(x),
    "reductions": lambda x: tf.reduce_mean(x, [1, 2]) + tf.reduce_sum(x, [1, 2]) - tf.reduce_max(x, [1, 2]),
    "normalisation": lambda x: tf.math.l2_normalize(x, -1),
    "running sums": lambda x: tf.cumsum(x, 1) + tf.cumsum(x, 2, exclusive=True, reverse=True),
    "convolution": lambda x: tf.nn.relu(tf.nn.conv2d(x, KERNEL, 2, "SAME") + 0.1),
    "convolution 3D": lambda x: tf.nn.relu(tf.nn.conv3d(x[..., None], CUBE, [1, 2, 1, 2, 1], "SAME") + 0.1),
    "convolution 3D, valid": lambda x: tf.nn.conv3d(x[..., None], CUBE, [1, 1, 2, 1, 1], "VALID"),
    "grouped": lambda x: tf.nn.conv2d(x, KERNEL[:, :, :2], 1, "VALID"),
    "depthwise": lambda x: tf.nn.depthwise_conv2d(x, EACH, [1, 1, 1, 1], "SAME"),
    "pooling": lambda x: tf.nn.avg_pool2d(x, 3, 2, "SAME") + tf.nn.max_pool2d(x, 3, 2, "SAME"),
    "dense": lambda x: tf.matmul(tf.reshape(x, [-1, 4]), MATRIX),
    "matrices": lambda x: tf.matmul(tf.matmul(x, x, transpose_b=True), x),
    "moves": lambda x: tf.transpose(tf.concat([x[:, 1:], x[:, :1]], 1), [0, 2, 1, 3]),
}


def converted(call):
    concrete = tf.function(call).get_concrete_function(tf.TensorSpec((1, 5, 6, 4), tf.float32))
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module()).convert()


@pytest.mark.parametrize("call", CASES.values(), ids=list(CASES))
def test_against_the_stock_runtime(call):
    data, x = converted(call), RNG.normal(size=(1, 5, 6, 4)).astype(np.float32)
    interpreter = tf.lite.Interpreter(model_content=data)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    wanted = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    engine = Engine(data)
    assert engine.has_float and agrees(engine.run(x), wanted)


def test_agreement_has_a_limit():
    wanted = np.array([1.0, -2.0], np.float32)
    assert agrees(wanted + 0.9 * 2 * TOLERANCE, wanted) and not agrees(wanted + 1.1 * 2 * TOLERANCE, wanted)
    assert not agrees(wanted[:1], wanted) and not agrees(wanted + np.float32(np.nan), wanted)


def test_what_follows_is_computed_from_the_values_that_are_given():
    engine = Engine(converted(lambda x: tf.exp(x) * 2.0))
    x = np.zeros((1, 5, 6, 4), np.float32)
    _, tensors = engine.run(x, all_tensors=True)
    first = next(name for name, value in tensors.items() if value.flat[0] == 1)
    near, far = (np.full_like(x, value) for value in (1 + TOLERANCE / 2, 2.0))
    assert engine.run(x, all_tensors=True, follow={first: near})[0].flat[0] == 2 * near.flat[0]
    assert engine.run(x, all_tensors=True, follow={first: far})[0].flat[0] == 2


def test_every_name_is_an_operator():
    from keras_dbq.tflite import flatbuffer as fb

    assert all(hasattr(fb.schema.BuiltinOperator, name) for name in FLOAT_OPS)
