"""The table of operators: one row an operator, layouts there and back."""

import numpy as np
import pytest

from keras_dbq.tflite import operators
from keras_dbq.tflite.flatbuffer import schema
from tests.tflite_ops import packed_models

OHWI, ONE_HWM = (7, 3, 2, 5), (1, 3, 2, 7)


@pytest.mark.parametrize(
    "name, shape", [("CONV_2D", OHWI), ("DEPTHWISE_CONV_2D", ONE_HWM), ("FULLY_CONNECTED", (7, 5))]
)
def test_one_channel_is_one_column(name, shape):
    weights = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    columns = operators.channel_columns(weights, name)
    assert columns.shape == (weights.size // 7, 7)
    for channel in range(7):
        np.testing.assert_array_equal(
            columns[:, channel], np.take(weights, channel, operators.KERNELS[name].axis).reshape(-1)
        )
    back = operators.from_columns(columns, shape, name)
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back, weights)


def test_custom_names_are_the_formats():
    names = {kind.upper(): custom for kind, custom in packed_models.CUSTOM_NAMES.items()}
    names["CONV_2D"], names["DEPTHWISE_CONV_2D"] = names.pop("CONV2D"), names.pop("DEPTHWISE_CONV2D")
    assert names == operators.CUSTOM_OPS
    assert {operators.CUSTOM_OPS[name] for name in operators.BUILTIN_OPS.values()} == set(operators.BUILTIN_OPS)
    assert all(operators.has_weights(name) for name in (*operators.CUSTOM_OPS, *operators.BUILTIN_OPS))
    assert not operators.has_weights("ADD")


def test_every_operator_has_one_rule():
    rules = [operators.SAME_GRID, operators.JOIN, operators.FREE, set(operators.FIXED)]
    assert sum(map(len, rules)) == len(operators.INT8_OPS) == len(set().union(*rules))
    assert operators.PASSES_GRID_BACK == (operators.SAME_GRID | operators.JOIN) - {"AVERAGE_POOL_2D", "RESIZE_BILINEAR"}
    assert all(hasattr(schema.BuiltinOperator, name) for name in operators.INT8_OPS)


@pytest.mark.parametrize("name, version", [("CONV_2D", 3), ("FULLY_CONNECTED", 4), ("ADD", 2), ("RESHAPE", 1)])
def test_versions(name, version):
    assert operators.int8_version(name) == version
