"""Pictures for the examples: handwritten digits, an .npz of arrays, or a tfds name; numpy arrays in every case."""

from keras_dbq.datasets.images import Images, load, resize

__all__ = ["Images", "load", "resize"]
