"""What a file means: a numpy engine that runs int8 and packed `.tflite` files bit for bit, without TensorFlow."""

from keras_dbq.reference.engine import Engine
from keras_dbq.reference.tflite_file import TFLiteModel, read_model

__all__ = ["Engine", "TFLiteModel", "read_model"]
