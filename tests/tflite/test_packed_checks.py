"""Damaged constants of a packed operator do not unpack: one line each; the delegate refuses the same."""

import numpy as np
import pytest

from keras_dbq.export import unpack_tflite
from keras_dbq.reference import Engine
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
    ("conv", put("params", 0, 3), "packed format: expected version 1 or 2, got 3; update"),
    ("conv", put("params", 0, 2), r"params: expected shape \(17,\), got \(16,\)"),
    ("conv", put("params", 12, 1), "expected depth multiplier 0, got 1"),
    ("depthwise multiplier", put("params", 12, 1), "expected depth multiplier 2, got 1"),
    ("dense", put("params", 6, 2), "expected kernel, strides, dilations 1 and padding VALID, got"),
]


def refused(case, arrays, message):
    """The file does not unpack, with one line, and does not run; its bytes."""
    data = packed_models.packed_model(CASES[case], arrays)
    with pytest.raises(ValueError, match=message) as caught:
        unpack_tflite(data)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError):
        Interpreter(data).predict(packed_models.random_input(CASES[case]))
    return data


@pytest.mark.parametrize("case, edit, message", DAMAGED)
def test_damaged_constants(case, edit, message):
    arrays = packed_models.constant_arrays(CASES[case])
    edit(arrays)
    refused(case, arrays, message)


def counted(case="conv", rows=3):
    """Constants of version 2."""
    arrays = packed_models.constant_arrays(CASES[case])
    channels = len(arrays["bias"])
    arrays["params"] = np.append(arrays["params"], 5).astype(np.int32)
    arrays["params"][0] = 2
    arrays["thresholds"] = np.broadcast_to(1000 * np.arange(rows)[:, None], (rows, channels)).astype(np.int32)
    return arrays


def edit_thresholds(change):
    def edit(arrays):
        arrays["thresholds"] = change(arrays["thresholds"])

    return edit


def version_1(arrays):
    arrays["params"] = arrays["params"][:16]
    arrays["params"][0] = 1


@pytest.mark.parametrize(
    "case, edit, message",
    [
        ("conv", edit_thresholds(lambda t: t[::-1]), "thresholds: expected numbers that do not fall from row to row"),
        (
            "conv",
            edit_thresholds(lambda t: t[:, 1:]),
            r"expected thresholds as a constant int32 tensor \[1..15, 9\]",
        ),
        ("conv", edit_thresholds(lambda t: np.repeat(t, 6, 0)), r"\[1..15, 9\], got \(18, 9\)"),
        ("conv", edit_thresholds(lambda t: t.astype(np.float32)), r"int32 tensor \[1..15, 9\]"),
        ("conv", version_1, "expected 17 constant int32 values as params"),
        ("conv", put("params", 0, 1), r"params: expected shape \(16,\), got \(17,\)"),
        ("conv", put("params", 16, 125), "params: expected a lowest code from -128 to 124, got 125"),
        ("conv", put("bias", 1, 2**31 - 1 - 45 * 127 * 255), "bias: expected up to .* beside 45 products, got"),
        ("depthwise", lambda arrays: None, "packed format 2: expected no depthwise layer"),
    ],
)
def test_damaged_thresholds(case, edit, message):
    arrays = counted(case)
    edit(arrays)
    data = refused(case, arrays, message)
    with pytest.raises(ValueError):
        Engine(data)


def test_thresholds_that_no_table_gives_run_and_do_not_unpack():
    """Of a writer that knows no table: each channel has its own."""
    arrays = counted()
    arrays["thresholds"] = np.sort(np.random.default_rng(0).integers(-9000, 9000, (3, 9)), 0).astype(np.int32)
    data, x = packed_models.packed_model(CASES["conv"], arrays), packed_models.random_input(CASES["conv"])
    np.testing.assert_array_equal(Interpreter(data).predict(x), Engine(data).run(x))
    assert set(np.unique(Engine(data).run(x))) == {5, 6, 7, 8}
    with pytest.raises(ValueError, match="thresholds: expected those of one table"):
        unpack_tflite(data)


@pytest.mark.parametrize("name, dtype", [("branch_scales", np.int8), ("scales", np.int32), ("bias", np.float32)])
def test_other_types(name, dtype):
    arrays = packed_models.constant_arrays(CASES["conv"])
    arrays[name] = arrays[name].astype(dtype)
    with pytest.raises(ValueError, match=f"{name}: expected .*, got {np.dtype(dtype).name}; is the file damaged"):
        unpack_tflite(packed_models.packed_model(CASES["conv"], arrays))
