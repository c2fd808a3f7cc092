"""Shapes of tensors that join examples with steps of time."""

import numpy as np

import keras_dbq
from keras_dbq.compat import keras, tf
from keras_dbq.export import shapes
from keras_dbq.tflite import flatbuffer as fb
from tests import zoo
from tests.property import check

L = keras.layers


def converted(function, shape):
    concrete = tf.function(function).get_concrete_function(tf.TensorSpec((None, *shape), tf.float32))
    data = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module()).convert()
    return fb.load_model(data), data


def shapes_of(model):
    return [fb.shape_of(tensor) for tensor in model.subgraphs[0].tensors]


def test_joined_steps_are_counted():
    model, data = converted(lambda x: tf.nn.relu(tf.reshape(x, [-1, 6])), (4, 2, 3))
    assert (1, 6) in shapes_of(model)
    shapes.settle(model, data)
    assert (1, 6) not in shapes_of(model) and (4, 6) in shapes_of(model)
    joined = [tensor for tensor in model.subgraphs[0].tensors if fb.shape_of(tensor) == (4, 6)]
    assert all(tensor.shapeSignature is None for tensor in joined)


def test_other_files_stay_as_they_are():
    model, data = converted(lambda x: tf.reshape(x, [-1, 24]), (4, 2, 3))
    before = shapes_of(model)
    shapes.settle(model, data)
    assert shapes_of(model) == before


def test_a_time_distributed_network_runs_with_any_batch():
    q_model = check.quantized(zoo.NETWORKS["TimeDistributed network"](), keras_dbq.DBQScheme())
    data = keras_dbq.export_tflite(q_model, None, "int8", strict=True).data
    codes = np.random.default_rng(0).integers(-128, 128, (5, 4, 8, 8, 2)).astype(np.int8)
    stock = keras_dbq.Interpreter(data, delegate=False).predict(codes, batch_size=2)
    np.testing.assert_array_equal(keras_dbq.reference.Engine(data).run(codes), stock)
