"""Roles: what each call means for quantization, its range, and what stands in its way."""

import re

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
    "nearest": (lambda x: L.UpSampling2D()(x), roles.SAME_RANGE),
    "slope": (lambda x: L.ReLU(negative_slope=0.5)(x), roles.OUTPUT),
}


@pytest.mark.parametrize("call, expected", ROLES.values(), ids=list(ROLES))
def test_role(call, expected):
    assert meaning(call).role == expected


UNSUPPORTED = {
    "hard_sigmoid": (lambda x: L.Activation("hard_sigmoid")(x), "the activation hard_sigmoid has no integer form; use"),
    "elu": (lambda x: L.Activation("elu")(x), "the activation elu has no integer form"),
    "bound": (lambda x: L.ReLU(4.0)(x), r"bound or threshold has no integer form; use ReLU\(\) or ReLU\(6\)"),
    "threshold": (lambda x: L.ReLU(threshold=0.5)(x), "bound or threshold"),
    "bilinear": (lambda x: L.UpSampling2D(interpolation="bilinear")(x), 'interpolation="bilinear".*use "nearest"'),
    "average": (lambda x: L.Average()([x, x]), "the type Average has no integer form"),
    "several operators": (lambda x: L.Lambda(lambda v: v / 127.5 - 1)(x), "computes RealDiv, Sub; write it as"),
    "first": (lambda x: L.Conv2D(2, 1, data_format="channels_first")(x), "channels_last"),
    "axis": (lambda x: L.Softmax(axis=1)(x), "another axis than the last"),
    "sigmoid of a product": (lambda x: L.Lambda(lambda v: tf.sigmoid(2 * v))(x), "computes Mul, Sigmoid"),
}


@pytest.mark.parametrize("call, why", UNSUPPORTED.values(), ids=list(UNSUPPORTED))
def test_what_stands_in_the_way(call, why):
    found = meaning(call)
    assert found.role == roles.UNSUPPORTED and re.search(why, found.why), found


def test_unsigned_outputs():
    assert roles.unsigned_output(L.ReLU()) and roles.unsigned_output(L.Conv2D(1, 1, activation="relu6"))
    assert not roles.unsigned_output(L.ReLU(negative_slope=0.1)) and not roles.unsigned_output(L.Dense(1))
