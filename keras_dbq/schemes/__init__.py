"""QuantizeSchemes: which layer of a network gets which quantizer."""

from keras_dbq.schemes.dbq import DBQScheme
from keras_dbq.schemes.fat import FATScheme

__all__ = ["DBQScheme", "FATScheme"]
