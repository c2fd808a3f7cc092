"""Pictures for the examples: handwritten digits, an .npz of arrays, or a tfds name; as arrays or as a stream."""

from keras_dbq.datasets.images import Images, load, resize
from keras_dbq.datasets.streams import Stream, from_arrays, stream

__all__ = ["Images", "Stream", "from_arrays", "load", "resize", "stream"]
