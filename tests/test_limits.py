"""Limits of the integer format: the largest bias beside the largest sum still fits int32, one more does not."""

import pytest

from keras_dbq import limits


@pytest.mark.parametrize("length", [1, 9, 1024, 4608])
def test_the_largest_sum_and_bias_fill_int32(length):
    largest_sum = length * limits.TOP_LEVEL * 255
    assert largest_sum + limits.bias_room(length) == limits.BIAS_LIMIT == 2**31 - 1


def test_the_top_level_is_the_largest_symmetric_int8():
    assert limits.TOP_LEVEL == 127
