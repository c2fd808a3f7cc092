"""Bilinear resizing in both roundings, and operators that move codes, against the stock runtime; every byte."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from keras_dbq.compat import tf
from keras_dbq.reference import Engine
from keras_dbq.tflite import flatbuffer as fb

RESOLVERS = {"xnnpack": OpResolverType.AUTO, "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
SHAPE = (1, 6, 4, 8)


def int8_file(call, shape):
    """A file of float32 operators, turned to int8 on one grid."""
    concrete = tf.function(call).get_concrete_function(tf.TensorSpec(shape, tf.float32))
    model = fb.load_model(tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module()).convert())
    for tensor in model.subgraphs[0].tensors:
        if tensor.type == fb.schema.TensorType.FLOAT32:
            tensor.type, tensor.quantization = fb.schema.TensorType.INT8, fb.quantization(np.float32(0.05), 3)
    for code in model.operatorCodes:
        code.version = 2
    return fb.save_model(model)


def check_every_byte(data, shape, rounding):
    interpreter = Interpreter(model_content=data, experimental_op_resolver_type=RESOLVERS[rounding])
    interpreter.allocate_tensors()
    x = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    wanted = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_array_equal(Engine(data, rounding).run(x), wanted)


# height, width, channels -> height, width; align_corners, half_pixel_centers
RESIZES = [
    (8, 8, 6, 16, 16, False, True), (5, 7, 3, 10, 14, False, True), (5, 7, 3, 3, 11, False, True),
    (4, 4, 16, 9, 9, True, False), (4, 5, 1, 9, 7, False, False), (8, 8, 32, 24, 24, False, True),
    (16, 16, 8, 8, 8, False, True), (1, 1, 4, 5, 5, False, True), (7, 9, 5, 1, 4, False, True),
]  # fmt: skip


@pytest.mark.parametrize("rounding", RESOLVERS)
@pytest.mark.parametrize("height, width, channels, rows, columns, align, half", RESIZES)
def test_bilinear(height, width, channels, rows, columns, align, half, rounding):
    def call(x):
        return tf.raw_ops.ResizeBilinear(
            images=x, size=tf.constant([rows, columns]), align_corners=align, half_pixel_centers=half
        )

    shape = (1, height, width, channels)
    check_every_byte(int8_file(call, shape), shape, rounding)


MOVES = {
    "depth to space": lambda x: tf.nn.depth_to_space(x, 2),
    "space to depth": lambda x: tf.nn.space_to_depth(x, 2),
    "tile": lambda x: tf.tile(x, [1, 2, 1, 3]),
    "reverse": lambda x: tf.reverse(x, [2]),
    "unstack": lambda x: tf.unstack(x, axis=2)[1],
}


@pytest.mark.parametrize("call", MOVES.values(), ids=list(MOVES))
def test_moves(call):
    check_every_byte(int8_file(call, SHAPE), SHAPE, "xnnpack")


def test_a_table_is_looked_up_by_the_code_modulo_256():
    table = np.random.default_rng(1).integers(-128, 128, 256).astype(np.int8)
    concrete = tf.function(lambda x: tf.gather(table, tf.cast(tf.cast(x, tf.uint8), tf.int32)))
    concrete = concrete.get_concrete_function(tf.TensorSpec((1, 256), tf.int8))
    data = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module()).convert()
    codes = np.arange(-128, 128, dtype=np.int8)[None]
    np.testing.assert_array_equal(Engine(data).run(codes), table[codes.view(np.uint8)])
    check_every_byte(data, (1, 256), "xnnpack")
