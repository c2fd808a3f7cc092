"""The packed operator in our interpreter and the stock int8 operator on XNNPACK: zero differing bytes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_dbq.runtime.interpreter import Interpreter, delegate_path
from tests.tflite_ops.packed_models import Case, int8_model, packed_model, random_input

CONV = Case("conv2d", (2, 9, 8, 5), 12)
DEPTHWISE = Case("depthwise_conv2d", (2, 9, 8, 19), 19, multiplier=1)
DENSE = Case("fully_connected", (5, 37), 21)

VARIATIONS = {
    "plain": {},
    "stride": {"stride": (2, 2)},
    "stride_3_valid": {"stride": (3, 3), "padding": "valid"},
    "valid": {"padding": "valid"},
    "dilation": {"dilation": (2, 2)},
    "dilation_valid": {"dilation": (2, 3), "padding": "valid"},
    "kernel_1x1": {"kernel": (1, 1)},
    "kernel_5x2": {"kernel": (5, 2)},
    "kernel_larger_than_image": {"kernel": (5, 5), "input_shape": (1, 3, 2, 19), "out_channels": 19},
    "odd_sizes": {"input_shape": (3, 11, 7, 19), "stride": (2, 2), "out_channels": 19},
    "one_pixel": {"input_shape": (1, 1, 1, 19), "out_channels": 19},
    "relu": {"activation": "relu"},
    "relu6": {"activation": "relu6"},
    "relu_n1_to_1": {"activation": "relu_n1_to_1"},
    "zero_points_low": {"input_zero_point": -128, "output_zero_point": -128},
    "zero_points_high": {"input_zero_point": 127, "output_zero_point": 127},
}
DENSE_VARIATIONS = {
    "plain": {},
    "one_row": {"input_shape": (1, 37)},
    "even_depth": {"input_shape": (3, 64), "out_channels": 32},
    "keep_num_dims": {"input_shape": (2, 3, 37), "keep_num_dims": True},
    "flattens": {"input_shape": (2, 3, 37)},
    "relu": {"activation": "relu"},
    "relu6": {"activation": "relu6"},
    "relu_n1_to_1": {"activation": "relu_n1_to_1"},
    "zero_points_low": {"input_zero_point": -128, "output_zero_point": -128},
    "zero_points_high": {"input_zero_point": 127, "output_zero_point": 127},
}


def _cases() -> dict[str, Case]:
    """Every variation of every operator, one and two branches."""
    found = {}
    for branches in (1, 2):
        for base in (CONV, DEPTHWISE):
            for name, change in VARIATIONS.items():
                case = dataclasses.replace(base, branches=branches, seed=len(found), **change)
                found[f"{base.kind}-{name}-B{branches}"] = case
        for multiplier in (2, 3):
            case = Case("depthwise_conv2d", (1, 6, 7, 5), 5 * multiplier, branches=branches, multiplier=multiplier)
            found[f"depthwise_conv2d-multiplier_{multiplier}-B{branches}"] = case
        for name, change in DENSE_VARIATIONS.items():
            case = dataclasses.replace(DENSE, branches=branches, seed=len(found), **change)
            found[f"fully_connected-{name}-B{branches}"] = case
    return found


CASES = _cases()


@pytest.mark.parametrize("name", CASES)
def test_delegate_equals_stock_int8(name: str) -> None:
    """Both instruction sets, at the file's batch and (where the first axis is one) at another."""
    case = CASES[name]
    stock = Interpreter(int8_model(case), delegate=False)
    for batch in (None, 4):
        x = random_input(case, batch)
        expected = stock.predict(x, batch_size=len(x))
        assert len(np.unique(expected)) > 2, "the outputs say nothing"
        for isa in ("scalar", "auto"):
            actual = Interpreter(packed_model(case), isa=isa).predict(x, batch_size=len(x))
            assert actual.shape == expected.shape
            differing = np.argwhere(actual != expected)
            assert not len(differing), f"{isa}: {len(differing)} bytes differ, first at {differing[0]}"


def test_outputs_fill_the_int8_range() -> None:
    """The random layers exercise both clamps and everything between."""
    codes = Interpreter(packed_model(CONV)).predict(random_input(CONV, 50))
    assert len(np.unique(codes)) == 256


@pytest.mark.parametrize("case", [CONV, DEPTHWISE, DENSE], ids=lambda c: c.kind)
def test_threads_do_not_change_the_result(case: Case) -> None:
    x = random_input(case, 200)
    expected = Interpreter(packed_model(case)).predict(x, batch_size=200)
    for threads in (2, 5):
        np.testing.assert_array_equal(Interpreter(packed_model(case), threads).predict(x, batch_size=200), expected)


def test_tensorflow_interpreter_gives_the_same_bytes(tmp_path: Path) -> None:
    """tf.lite.Interpreter with the same delegate, in a process that does not load LiteRT's interpreter."""
    cases = [c for name, c in CASES.items() if "plain" in name or "relu6" in name or "stride" in name]
    for i, case in enumerate(cases):
        (tmp_path / f"{i}.tflite").write_bytes(packed_model(case))
        np.savez(
            tmp_path / f"{i}.npz", x=random_input(case), y=Interpreter(packed_model(case)).predict(random_input(case))
        )
    code = """
import json, sys, warnings
import numpy as np
warnings.simplefilter("ignore")
from tensorflow.lite.python.interpreter import Interpreter, load_delegate
folder, library, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
differing = []
for i in range(count):
    arrays = np.load(f"{folder}/{i}.npz")
    interpreter = Interpreter(f"{folder}/{i}.tflite", experimental_delegates=[load_delegate(library)])
    detail = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(detail["index"], arrays["x"].shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(detail["index"], arrays["x"])
    interpreter.invoke()
    y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    differing.append(int((y != arrays["y"]).sum()) if y.shape == arrays["y"].shape else -1)
assert not any(name.startswith("ai_edge_litert") for name in sys.modules)
print(json.dumps(differing))
"""
    command = [sys.executable, "-c", code, str(tmp_path), str(delegate_path()), str(len(cases))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [0] * len(cases)
