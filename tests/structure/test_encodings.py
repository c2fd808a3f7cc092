"""Files of the stock converter in other encodings than ours: what the stock runtime runs, the check lets through."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from keras_dbq.compat import keras, tf
from keras_dbq.structure import check_file

WIDE = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
ENCODINGS = {
    "float16": {"supported_types": [tf.float16]},
    "dynamic range": {},
    "16x8": {"supported_ops": [WIDE, tf.lite.OpsSet.TFLITE_BUILTINS]},
}


def network():
    """Wide enough for dynamic range, which leaves weights of under 1,024 numbers in float."""
    L = keras.layers
    x = inputs = keras.Input((8, 8, 16))
    x = L.DepthwiseConv2D(3, padding="same")(L.Conv2D(32, 3, activation="relu", padding="same")(x))
    x = L.Conv2DTranspose(16, 3, strides=2, padding="same")(L.Add()([x, L.Conv2D(32, 3, padding="same", groups=2)(x)]))
    x = L.Concatenate()([L.MaxPooling2D(2)(x), L.AveragePooling2D(2)(x)])
    return keras.Model(inputs, L.Dense(10, activation="softmax")(L.Dense(64)(L.Flatten()(x))))


def converted(model, encoding):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    vars(converter.target_spec).update(ENCODINGS[encoding])
    if encoding == "16x8":
        rng = np.random.default_rng(0)
        shapes = [(1, *tensor.shape[1:]) for tensor in model.inputs]
        converter.representative_dataset = lambda: iter(
            [[rng.normal(size=s).astype(np.float32) for s in shapes] for _ in range(2)]
        )
    return converter.convert()


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_other_encodings_are_let_through(encoding):
    data = converted(network(), encoding)
    types = {detail["dtype"] for detail in Interpreter(model_content=data).get_tensor_details()}
    assert {"float16": np.float16, "dynamic range": np.int8, "16x8": np.int16}[encoding] in types
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    interpreter.invoke()
    check_file(data)
