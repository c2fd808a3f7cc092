"""Roles: what each call means for quantization, its range, and what stands in its way."""

import pytest

from keras_dbq.compat import keras, tf
from keras_dbq.network import roles
from keras_dbq.network.graph import Graph

L = keras.layers
TANH, SIGMOID = (-1.0, 127 / 128), (0.0, 255 / 256)


def meaning(call):
    inputs = keras.Input((4, 4, 2))
    return roles.meaning(Graph(keras.Model(inputs, call(inputs))).nodes[-1])


RANGES = {
    "Activation tanh": (lambda x: L.Activation("tanh")(x), TANH),
    "Lambda tanh": (lambda x: L.Lambda(lambda v: tf.tanh(v))(x), TANH),
    "Lambda sigmoid": (lambda x: L.Lambda(lambda v: tf.sigmoid(v))(x), SIGMOID),
    "Lambda softmax": (lambda x: L.Lambda(lambda v: tf.nn.softmax(v))(x), SIGMOID),
    "Lambda of a named function": (lambda x: L.Lambda(tf.tanh)(x), TANH),
    "operator tanh": (lambda x: tf.tanh(x), TANH),
    "operator sigmoid": (lambda x: tf.sigmoid(x), SIGMOID),
    "Softmax": (lambda x: L.Softmax()(x), SIGMOID),
    "UnitNormalization": (lambda x: L.UnitNormalization()(x), TANH),
    "operator l2_normalize": (lambda x: tf.math.l2_normalize(x, 3), TANH),
    "Lambda l2_normalize": (lambda x: L.Lambda(lambda v: tf.math.l2_normalize(v, [-1], epsilon=1e-10))(x), TANH),
    "Softmax over another axis": (lambda x: L.Softmax(axis=1)(x), SIGMOID),
}


@pytest.mark.parametrize("call, expected", RANGES.values(), ids=list(RANGES))
def test_the_range_comes_from_the_operator(call, expected):
    assert meaning(call) == roles.Meaning(roles.FIXED, expected)


ROLES = {
    "relu": (lambda x: tf.nn.relu(x), roles.RELU),
    "sum": (lambda x: x + 1.5, roles.SUM),
    "product": (lambda x: x * x, roles.SUM),
    "slice": (lambda x: x[:, 1:], roles.SAME_RANGE),
    "transpose": (lambda x: tf.transpose(x, [0, 2, 1, 3]), roles.SAME_RANGE),
    "mean": (lambda x: tf.reduce_mean(x, [1, 2]), roles.OUTPUT),
    "concat": (lambda x: tf.concat([x, x], -1), roles.JOIN),
    "swish": (lambda x: L.Lambda(lambda v: v * tf.sigmoid(v))(x), roles.OUTPUT),
    "hard swish": (lambda x: L.Lambda(lambda v: v * tf.nn.relu6(v + 3) / 6)(x), roles.OUTPUT),
    "dropout": (lambda x: L.Dropout(0.5)(x), roles.IDENTITY),
    "random": (lambda x: L.RandomFlip()(x), roles.IDENTITY),
    "largest": (lambda x: tf.reduce_max(x, [1, 2]), roles.SAME_RANGE),
    "stack": (lambda x: tf.stack([x, x]), roles.JOIN),
    "bilinear": (lambda x: L.UpSampling2D(interpolation="bilinear")(x), roles.OUTPUT),
    "nearest": (lambda x: L.UpSampling2D()(x), roles.SAME_RANGE),
    "Dot": (lambda x: L.Dot((3, 3))([x, x]), roles.OUTPUT),
    "product of matrices": (lambda x: tf.matmul(x, x, transpose_b=True), roles.OUTPUT),
    "slope": (lambda x: L.ReLU(negative_slope=0.5)(x), roles.OUTPUT),
}


@pytest.mark.parametrize("call, expected", ROLES.values(), ids=list(ROLES))
def test_role(call, expected):
    assert meaning(call).role == expected


TABLES = {
    "hard_sigmoid": lambda x: L.Activation("hard_sigmoid")(x),
    "gelu": lambda x: L.Activation("gelu")(x),
    "ELU": lambda x: L.ELU(0.5)(x),
    "bound": lambda x: L.ReLU(4.0)(x),
    "threshold": lambda x: L.ReLU(threshold=0.5)(x),
    "slope and bound": lambda x: L.ReLU(6.0, negative_slope=0.1)(x),
    "several operators": lambda x: L.Lambda(lambda v: v / 127.5 - 1)(x),
    "sigmoid of a product": lambda x: L.Lambda(lambda v: tf.sigmoid(2 * v))(x),
    "operator": lambda x: tf.abs(x),
    "divisor": lambda x: 1.0 / x,
    "a function of the user's": lambda x: L.Activation(lambda v: tf.nn.relu6(v + 3) / 6)(x),
    "a layer of the user's": lambda x: Gate()(x),
}


class Gate(L.Layer):
    """A layer without weights."""

    def call(self, inputs):
        return tf.clip_by_value(inputs, -1.0, 2.0) + 1.0


@pytest.mark.parametrize("call", TABLES.values(), ids=list(TABLES))
def test_functions_of_one_number_are_tables(call):
    assert meaning(call) == roles.Meaning(roles.TABLE)


UNSUPPORTED = {
    "type": (lambda x: L.LayerNormalization()(x), "the type LayerNormalization has no integer form", "use BatchNorm"),
    "bicubic": (
        lambda x: L.UpSampling2D(interpolation="bicubic")(x),
        'interpolation="bicubic" has no integer form',
        'use "nearest" or "bilinear"',
    ),
    "cropping": (lambda x: L.Resizing(2, 2, crop_to_aspect_ratio=True)(x), "crop_to_aspect_ratio", "data pipeline"),
    "several tensors": (lambda x: L.Average()([x, x]), "the type Average has no integer form", "replace it"),
    "two numbers": (lambda x: L.Lambda(lambda v: v[0] * v[1] + 1)([x, x]), "computes Mul, AddV2", "write it as"),
    "constant per channel": (lambda x: L.Lambda(lambda v: v * [1.0, 2.0] + 1)(x), "computes Mul, AddV2", "write it as"),
    "neighbours": (lambda x: L.Lambda(lambda v: tf.cumsum(v))(x), "computes Cumsum", "write it as"),
    "quotient": (lambda x: x / tf.abs(x), "computes RealDiv", "write it as"),
    "first": (lambda x: L.Conv2D(2, 1, data_format="channels_first")(x), "channels_first", "channels_last"),
    "mask": (lambda x: L.Masking()(x), "the type Masking has no integer form", "the same length"),
}


@pytest.mark.parametrize("call, why, advice", UNSUPPORTED.values(), ids=list(UNSUPPORTED))
def test_what_stands_in_the_way(call, why, advice):
    found = meaning(call)
    assert found.role == roles.UNSUPPORTED and why in found.why and advice in found.advice, found


def test_unsigned_outputs():
    assert roles.unsigned_output(L.ReLU()) and roles.unsigned_output(L.Conv2D(1, 1, activation="relu6"))
    assert roles.unsigned_output(L.ReLU(4.0)) and roles.unsigned_output(L.Activation("hard_sigmoid"))
    assert not roles.unsigned_output(L.ReLU(negative_slope=0.1)) and not roles.unsigned_output(L.Dense(1))
