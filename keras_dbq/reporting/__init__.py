"""A page to look at: what was quantized, how well, and where bytes, errors and time are."""

from keras_dbq.reporting.report import report

__all__ = ["report"]
