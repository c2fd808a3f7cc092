"""The tensor `params`, number by number."""

import numpy as np
import pytest

from keras_dbq.tflite.params import Params
from tests.tflite_ops import packed_models
from tests.tflite_ops.packed_models import Case

CASE = Case(
    "conv2d", (1, 7, 6, 5), 9, kernel=(3, 2), stride=(2, 1), dilation=(1, 3), padding="valid", activation="relu6",
    branches=2, input_zero_point=-7, output_zero_point=11,
)  # fmt: skip


def test_names_stand_for_the_formats_positions():
    params = Params.from_array(packed_models.params(CASE))
    assert params == Params(
        format_version=1,
        branches=2,
        kernel_height=3,
        kernel_width=2,
        input_channels=5,
        output_channels=9,
        stride_height=2,
        stride_width=1,
        dilation_height=1,
        dilation_width=3,
        padding=1,
        activation=3,
        depth_multiplier=0,
        input_zero_point=-7,
        output_zero_point=11,
        keep_num_dims=0,
    )
    array = params.to_array()
    assert array.dtype == np.int32 and array.tolist() == packed_models.params(CASE).tolist()


def test_version_2_has_a_number_more():
    numbers = np.append(packed_models.params(CASE), 124).astype(np.int32)
    numbers[0] = 2
    params = Params.from_array(numbers)
    assert (params.lowest_code, params.keep_num_dims) == (124, 0) and params.to_array().tolist() == numbers.tolist()
    with pytest.raises(ValueError, match=r"params: expected shape \(17,\), got \(16,\)"):
        Params.from_array(numbers[:16])


@pytest.mark.parametrize("shape", [(15,), (17,), (4, 4)])
def test_other_shapes_are_damage(shape):
    with pytest.raises(ValueError, match=r"params: expected shape \(16,\), got .*; is the file damaged"):
        Params.from_array(np.zeros(shape, np.int32))
