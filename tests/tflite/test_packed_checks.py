"""Damaged constants of a packed operator do not unpack: one line each; the delegate refuses the same."""

import numpy as np
import pytest

from keras_dbq.export import unpack_tflite
from keras_dbq.runtime.interpreter import Interpreter
from tests.tflite.cases import CASES
from tests.tflite_ops import packed_models


def put(name, at, value):
    def edit(arrays):
        arrays[name].reshape(-1)[at] = value

    return edit


DAMAGED = [  # of branch_scales, channel 2 is at 2 (p) and, of two branches with 9 channels, at 11 (q)
    ("conv", put("branch_scales", 2, 0), "p > q >= 0 and p [+] q <= 127, got p 0, q"),
    ("conv", put("branch_scales", 11, 127), "got p .*, q 127 in channel 2"),
    ("conv", put("branch_scales", 2, 200), "got p 200, q .* in channel 2"),
    ("conv one branch", put("branch_scales", 0, 0), "got p 0, q 0 in channel 0"),
    ("conv one branch", put("branch_scales", 0, 128), "got p 128, q 0 in channel 0"),
    ("conv", put("scales", 3, np.nan), "scales: expected finite values over 0, got nan at 3"),
    ("conv", put("scales", 0, 0), "scales: expected finite values over 0, got 0.0 at 0"),
    ("conv", put("bias", 1, 2**31 - 1), "bias: expected up to .* beside 45 products, got 2147483647"),
    ("depthwise", put("bias", 1, -(2**31) + 1), "bias: expected up to .* beside 9 products, got 2147483647"),
    ("conv", put("params", 0, 2), "packed format: expected version 1, got 2; update"),
    ("conv", put("params", 12, 1), "expected depth multiplier 0, got 1"),
    ("depthwise multiplier", put("params", 12, 1), "expected depth multiplier 2, got 1"),
    ("dense", put("params", 6, 2), "expected kernel, strides, dilations 1 and padding VALID, got"),
]


@pytest.mark.parametrize("case, edit, message", DAMAGED)
def test_damaged_constants(case, edit, message):
    arrays = packed_models.constant_arrays(CASES[case])
    edit(arrays)
    data = packed_models.packed_model(CASES[case], arrays)
    with pytest.raises(ValueError, match=message) as caught:
        unpack_tflite(data)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError):
        Interpreter(data).predict(packed_models.random_input(CASES[case]))


@pytest.mark.parametrize("name, dtype", [("branch_scales", np.int8), ("scales", np.int32), ("bias", np.float32)])
def test_other_types(name, dtype):
    arrays = packed_models.constant_arrays(CASES["conv"])
    arrays[name] = arrays[name].astype(dtype)
    with pytest.raises(ValueError, match=f"{name}: expected .*, got {np.dtype(dtype).name}; is the file damaged"):
        unpack_tflite(packed_models.packed_model(CASES["conv"], arrays))
