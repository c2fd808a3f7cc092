"""What every preparation gives back."""

from typing import NamedTuple

from keras_dbq._table import Table
from keras_dbq.compat import keras


class Prepared(NamedTuple):
    """A float network made ready, and what was done to it.

    model: a copy with other weights and the same outputs.
    table: one row per layer, or bottleneck, that was looked at: what was done, or why it was left alone.
    """

    model: keras.Model
    table: Table
