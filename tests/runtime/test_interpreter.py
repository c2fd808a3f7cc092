"""keras_dbq.runtime.interpreter: quantization of inputs, batches, several inputs, tensors by name, every error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from keras_dbq.runtime import library
from keras_dbq.runtime.interpreter import Interpreter, delegate_path
from keras_dbq.tflite import flatbuffer as fb
from tests.tflite_ops.packed_models import (
    Case,
    ModelBuilder,
    constant_arrays,
    int8_model,
    packed_model,
    random_input,
    random_tensors,
)

CASE = Case("conv2d", (1, 6, 5, 4), 7)


def _add_model(shape: tuple[int, ...] = (1, 3), dtype: str = "int8") -> bytes:
    """y = a + b on two inputs."""
    builder = ModelBuilder()
    scale = None if dtype == "float32" else np.float32(0.5)
    a, b, y = (builder.tensor(n, shape, dtype, scale=scale, zero_point=np.array([2])) for n in ("a", "b", "y"))
    builder.graph.inputs, builder.graph.outputs = [a, b], [y]
    operator = builder.operator(schema.BuiltinOperator.ADD, [a, b], [y])
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
    return builder.bytes()


def _fixed_batch_model() -> bytes:
    """Reshape to the constant [2, 6]: no other batch than 2 works."""
    builder = ModelBuilder()
    x = builder.tensor("x", (2, 3, 2), scale=np.float32(1))
    y = builder.tensor("y", (2, 6), scale=np.float32(1))
    shape = builder.tensor("shape", (2,), "int32", np.array([2, 6], np.int32))
    builder.graph.inputs, builder.graph.outputs = [x], [y]
    builder.operator(schema.BuiltinOperator.RESHAPE, [x, shape], [y])
    return builder.bytes()


def _two_layer_model() -> tuple[bytes, Case]:
    """The packed convolution followed by a stock ReLU, so that "y" is an inner tensor; two outputs."""
    builder = ModelBuilder()
    case, t = CASE, random_tensors(CASE)
    x = builder.tensor("x", case.input_shape, scale=t.input_scale, zero_point=np.array([case.input_zero_point]))
    y = builder.tensor("y", case.output_shape, scale=t.output_scale, zero_point=np.array([case.output_zero_point]))
    z = builder.tensor("z", case.output_shape, scale=t.output_scale, zero_point=np.array([case.output_zero_point]))
    constants = [builder.tensor(n, a.shape, a.dtype.name, a) for n, a in constant_arrays(case).items()]
    builder.operator(schema.BuiltinOperator.CUSTOM, [x, *constants], [y], "DbqConv2D")
    builder.operator(schema.BuiltinOperator.RELU, [y], [z])
    builder.graph.inputs, builder.graph.outputs = [x], [z]
    return builder.bytes(), case


def test_float_input_is_quantized_and_the_result_dequantized() -> None:
    t = random_tensors(CASE)
    x = np.random.default_rng(0).normal(0, 3, (5, *CASE.input_shape[1:]))
    codes = np.clip(np.rint(x.astype(np.float32) / t.input_scale) + CASE.input_zero_point, -128, 127).astype(np.int8)
    assert codes.min() == -128 and codes.max() == 127
    model = Interpreter(packed_model(CASE))
    y_codes, y = model.predict(codes), model.predict(x)
    assert y_codes.dtype == np.int8 and y.dtype == np.float32
    np.testing.assert_array_equal(y, (y_codes.astype(np.float32) - CASE.output_zero_point) * t.output_scale)


def test_quantization_rounds_ties_up_as_training_does() -> None:
    model = Interpreter(_add_model())
    ties = np.array([[0.25, 0.75, -0.25]])  # scale 0.5: 0.5, 1.5, -0.5 -> 1, 2, 0
    np.testing.assert_array_equal(model.predict([ties, np.zeros((1, 3))]), np.array([[0.5, 1.0, 0.0]], np.float32))


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_batches_of_any_size_agree(batch_size: int) -> None:
    x = random_input(CASE, 7)
    expected = np.concatenate([Interpreter(packed_model(CASE)).predict(x[i : i + 1]) for i in range(7)])
    np.testing.assert_array_equal(Interpreter(packed_model(CASE)).predict(x, batch_size=batch_size), expected)


def test_one_interpreter_serves_changing_batches() -> None:
    model, x = Interpreter(packed_model(CASE)), random_input(CASE, 6)
    whole = model.predict(x)
    for size in (2, 6, 1, 5):
        np.testing.assert_array_equal(model.predict(x[:size]), whole[:size])


def test_fixed_batch_runs_at_the_files_own() -> None:
    x = np.arange(24, dtype=np.int8).reshape(4, 3, 2)
    model = Interpreter(_fixed_batch_model())
    for _ in range(2):
        np.testing.assert_array_equal(model.predict(x), x.reshape(4, 6))
    with pytest.raises(ValueError, match="x: expected a multiple of the file's fixed batch 2, got 3 examples"):
        model.predict(x[:3])


def test_several_inputs() -> None:
    a, b = np.array([[1.0, 2.0, 3.0]] * 2), np.array([[0.5, 0.5, -4.0]] * 2)
    np.testing.assert_array_equal(Interpreter(_add_model()).predict([a, b]), (a + b).astype(np.float32))


def test_float_model_passes_through() -> None:
    a = np.array([[0.1, 0.2, 0.3]])
    np.testing.assert_array_equal(Interpreter(_add_model(dtype="float32")).predict([a, a]), a.astype(np.float32) * 2)


def test_tensors_by_name() -> None:
    content, case = _two_layer_model()
    x = random_input(case, 2)
    model = Interpreter(content, preserve_all_tensors=True)
    z = model.predict(x)
    tensors = model.tensors()
    assert list(tensors) == ["x", "y", "z"]
    np.testing.assert_array_equal(tensors["x"], x)
    np.testing.assert_array_equal(tensors["y"], Interpreter(packed_model(case)).predict(x))
    np.testing.assert_array_equal(tensors["z"], z)
    np.testing.assert_array_equal(z, np.maximum(tensors["y"], case.output_zero_point))
    with pytest.raises(ValueError, match="tensors: expected Interpreter\\(..., preserve_all_tensors=True\\)"):
        Interpreter(content).tensors()


def test_path_and_bytes_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(packed_model(CASE))
    x = random_input(CASE)
    expected = Interpreter(packed_model(CASE)).predict(x)
    for form in (str(path), path):
        np.testing.assert_array_equal(Interpreter(form).predict(x), expected)


def test_stock_interpreter_runs_int8_and_names_the_package_for_packed() -> None:
    for delegate in (True, False):  # a file without packed operators needs none
        assert Interpreter(int8_model(CASE), delegate=delegate).predict(random_input(CASE)).dtype == np.int8
    with pytest.raises(ValueError, match="they are in the package keras_dbq: use keras_dbq.Interpreter"):
        Interpreter(packed_model(CASE), delegate=False)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((1, 6, 5)), ValueError, r"input 'x': expected shape \[N, 6, 5, 4\], got \[1, 6, 5\]"),
        (np.zeros((1, 6, 4, 4)), ValueError, r"expected shape \[N, 6, 5, 4\], got \[1, 6, 4, 4\]"),
        (np.zeros((0, 6, 5, 4)), ValueError, r"expected one batch size of at least 1 in all inputs, got \[0\]"),
        (np.zeros((1, 6, 5, 4), np.uint8), TypeError, "expected float or int8, got uint8"),
        (np.zeros((1, 6, 5, 4), complex), TypeError, "expected float or int8, got complex128"),
        (np.full((1, 6, 5, 4), np.nan), ValueError, "input 'x': expected numbers, got NaN"),
        ([np.zeros((1, 6, 5, 4))] * 2, ValueError, r"expected 1 array\(s\), one per model input \(x\), got 2"),
    ],
)
def test_input_errors(x: np.ndarray, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Interpreter(packed_model(CASE)).predict(x)


def test_errors_of_several_inputs() -> None:
    model = Interpreter(_add_model())
    with pytest.raises(ValueError, match=r"expected one batch size of at least 1 in all inputs, got \[1, 2\]"):
        model.predict([np.zeros((1, 3)), np.zeros((2, 3))])
    with pytest.raises(TypeError, match="expected all quantized inputs as float or all as codes, got both"):
        model.predict([np.zeros((1, 3)), np.zeros((1, 3), np.int8)])


def test_argument_errors(tmp_path: Path) -> None:
    content = packed_model(CASE)
    with pytest.raises(ValueError, match="num_threads: expected an integer from 1"):
        Interpreter(content, num_threads=0)
    with pytest.raises(TypeError, match="delegate: expected True or False"):
        Interpreter(content, delegate="no")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="preserve_all_tensors: expected True or False"):
        Interpreter(content, preserve_all_tensors=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="isa must be auto, scalar, avx2, avxvnni, avx512vnni or amx, got 'sse'"):
        Interpreter(content, isa="sse")
    with pytest.raises(ValueError, match="batch_size: expected an integer from 1"):
        Interpreter(content).predict(random_input(CASE), batch_size=0)
    with pytest.raises(FileNotFoundError, match="expected a .tflite file, got '.*none.tflite', which is no file"):
        Interpreter(tmp_path / "none.tflite")


@pytest.mark.parametrize("content", [b"", b"not a model", packed_model(CASE)[:200]], ids=["empty", "text", "cut"])
def test_a_file_that_is_no_model(content: bytes) -> None:
    with pytest.raises(ValueError, match="model_path: expected a sound .tflite file, got: "):
        Interpreter(content)


def test_damaged_layer_is_one_line_that_names_it() -> None:
    arrays = constant_arrays(CASE)
    arrays["codes"][3] = 243
    with pytest.raises(ValueError) as error:
        Interpreter(packed_model(CASE, arrays))
    assert "DbqConv2D 'y': codes[3] must be at most 242, got 243" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_delegate_says_how_to_build_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "PATH", library.PATH + ".missing")
    with pytest.raises(FileNotFoundError, match="got no file; build it with `pip install .`"):
        Interpreter(packed_model(CASE))
    assert Interpreter(int8_model(CASE), delegate=False).predict(random_input(CASE)).dtype == np.int8


def test_imports_no_tensorflow() -> None:
    code = (
        "import sys; from keras_dbq.runtime.interpreter import Interpreter; import numpy as np;"
        "Interpreter(sys.stdin.buffer.read()).predict(np.zeros((1, 6, 5, 4)));"
        "bad = [m for m in sys.modules if m.split('.')[0] in ('tensorflow', 'tf_keras', 'keras')]; assert not bad, bad"
    )
    done = subprocess.run([sys.executable, "-c", code], input=packed_model(CASE), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-1000:]


def test_falls_back_to_tensorflow_without_litert() -> None:
    """LiteRT hidden: TensorFlow's interpreter runs the same file to the same bytes."""
    code = (
        "import sys; sys.modules['ai_edge_litert'] = None; from keras_dbq.runtime.interpreter import Interpreter;"
        "import numpy as np; y = Interpreter(sys.stdin.buffer.read()).predict(np.full((2, 6, 5, 4), 9, np.int8));"
        "assert 'tensorflow' in sys.modules; sys.stdout.buffer.write(b'RESULT' + y.tobytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], input=packed_model(CASE), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-1000:]
    expected = Interpreter(packed_model(CASE)).predict(np.full((2, 6, 5, 4), 9, np.int8))
    assert done.stdout.split(b"RESULT")[1] == expected.tobytes()


def test_the_shared_object_is_self_contained() -> None:
    """Exports the delegate's two entry points and the one for files, and needs nothing but the C library."""
    exported = _symbols("--defined-only")
    assert exported == {"tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate", "dbq_look_at_file"}
    assert not {s for s in _symbols("--undefined-only") if "TfLite" in s or "tflite" in s or "Py" in s}


def _symbols(which: str) -> set[str]:
    done = subprocess.run(["nm", "-D", which, str(delegate_path())], capture_output=True, text=True, check=True)
    return {line.split()[-1].split("@")[0] for line in done.stdout.splitlines()}


def test_files_that_end_the_runtime_are_refused_before_it() -> None:
    """Both end the process in ai_edge_litert 2.3.0: a depthwise convolution without bias, a subnormal scale."""
    case = Case("depthwise_conv2d", (1, 5, 5, 4), 4, multiplier=1)
    model = fb.load_model(int8_model(case))
    operator = model.subgraphs[0].operators[0]
    operator.inputs = np.array(operator.inputs[:2])
    with pytest.raises(ValueError, match=r"got: operator 0 \(DEPTHWISE_CONV_2D\): expected a third input, the bias"):
        Interpreter(fb.save_model(model))
    model = fb.load_model(int8_model(case))
    model.subgraphs[0].tensors[0].quantization.scale = np.float32([1e-42])
    with pytest.raises(ValueError, match="got: tensor 0 'x': expected scales that are finite, > 0 and not subnormal"):
        Interpreter(fb.save_model(model))


def test_what_the_runtime_refuses_when_it_runs_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("gather index out of bounds\nNode number 3 failed to invoke.")

    model = Interpreter(packed_model(CASE))
    monkeypatch.setattr(model, "_interpreter", _Failing(model._interpreter, fail))
    with pytest.raises(ValueError, match="expected a file that runs, got: gather index out of bounds; Node number 3"):
        model.predict(random_input(CASE))


class _Failing:
    """A runtime whose invoke fails."""

    def __init__(self, runtime: Any, invoke: Any) -> None:
        self._runtime, self.invoke = runtime, invoke

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)


def test_how_many_examples_are_run_at_once() -> None:
    assert Interpreter(_add_model(), delegate=False).batch_at_once(7) == 7
    assert Interpreter(_fixed_batch_model(), delegate=False).batch_at_once(7) == 2
    with pytest.raises(ValueError, match="size: expected .*, got 0"):
        Interpreter(_add_model(), delegate=False).batch_at_once(0)
