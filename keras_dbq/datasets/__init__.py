"""Pictures for the examples: handwritten digits, an .npz, a folder or a tfds name; as arrays or as a stream."""

from keras_dbq.datasets.arrays import Images
from keras_dbq.datasets.images import load
from keras_dbq.datasets.resizing import resize
from keras_dbq.datasets.stream import Stream, from_arrays
from keras_dbq.datasets.streams import stream

__all__ = ["Images", "Stream", "from_arrays", "load", "resize", "stream"]
