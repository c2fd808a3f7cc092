"""Keras 3 models: told apart, converted to tf_keras, and compared (design note: docs/keras3.md)."""

from keras_dbq.keras3.detect import is_keras3
from keras_dbq.keras3.files import as_tf_keras, from_keras3, load_model
from keras_dbq.keras3.missing import NotConverted

__all__ = ["NotConverted", "as_tf_keras", "from_keras3", "is_keras3", "load_model"]
