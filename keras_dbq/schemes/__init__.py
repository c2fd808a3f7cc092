"""QuantizeSchemes: which layer of a network gets which quantizer."""

from keras_dbq.schemes.dbq import DBQScheme
from keras_dbq.schemes.fat import FATScheme
from keras_dbq.schemes.ternary_rules import TernaryRuleScheme
from keras_dbq.schemes.tsq import TSQScheme

__all__ = ["DBQScheme", "FATScheme", "TSQScheme", "TernaryRuleScheme"]
