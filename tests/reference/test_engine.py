"""The engine around the operators: inputs, outputs, batches, names, errors, and no TensorFlow."""

import subprocess
import sys

import numpy as np
import pytest

from keras_dbq.reference import Engine, read_model
from tests.reference.tflite_builder import Builder, interpret, options


def add_file(batch=1, output_dtype=np.int8):
    b = Builder()
    x = b.tensor((batch, 4), np.int8, 0.5, 3, name="left")
    z = b.tensor((batch, 4), np.int8, 0.25, -2, name="right")
    y = b.tensor((batch, 4), np.int8, 1.0, 1, name="sum")
    b.op("ADD", [x, z], [y], options("AddOptions"), 2)
    return b.finish([x, z], [y])


def relu_file(shape=(1, 4), name="RELU", batch_signature=None):
    b = Builder()
    x = b.tensor(shape, np.int8, 0.5, 3, name="in", signature=batch_signature)
    y = b.tensor(shape, np.int8, 0.5, 3, name="out", signature=batch_signature)
    b.op(name, [x], [y])
    return b.finish([x], [y])


def test_runs_without_tensorflow(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(relu_file())
    code = (
        "import sys, numpy as np, keras_dbq.reference\n"
        f"y = keras_dbq.reference.Engine({str(path)!r}).run(np.ones((2, 4), np.float32))\n"
        "assert y.tolist() == [[1.0] * 4] * 2, y\n"
        "assert 'tensorflow' not in sys.modules and 'tf_keras' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_float_in_float_out_and_codes_in_codes_out():
    engine = Engine(relu_file())
    x = np.array([[0.26, -7.0, 0.24, 1e6]])
    assert engine.run(x).tolist() == [[0.5, 0.0, 0.0, 62.0]]
    assert engine.run(x).dtype == np.float32
    codes = engine.run(np.array([[4, -11, 3, 127]], np.int8))
    assert codes.tolist() == [[4, 3, 3, 127]] and codes.dtype == np.int8


def test_several_inputs_and_all_tensors():
    left, right = np.array([[7, 3, 3, 3]], np.int8), np.array([[2, -2, 2, 0]], np.int8)
    y, tensors = Engine(add_file()).run([left, right], all_tensors=True)
    assert y.tolist() == [[4, 1, 2, 2]]  # 2 + 1, 0 + 0, 0 + 1, 0 + 0.5 (tie up), and the zero point 1
    assert sorted(tensors) == ["left", "right", "sum"]
    assert np.array_equal(tensors["left"], left) and np.array_equal(tensors["sum"], y)


def test_tensors_of_one_name_are_told_apart():
    b = Builder()
    x, y = (b.tensor((1, 4), np.int8, 0.5, 3, name="same") for _ in range(2))
    b.op("RELU", [x], [y])
    _, tensors = Engine(b.finish([x], [y])).run(np.zeros((1, 4), np.int8), all_tensors=True)
    assert sorted(tensors) == ["same", "same#1"]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("count", [2, 70])
def test_any_batch_through_a_fixed_reshape(batch, count):
    """A file of a fixed batch with constant shapes runs any multiple of it, in blocks too."""
    b = Builder()
    x = b.tensor((batch, 2, 3, 4), np.int8, 0.5, 3)
    flat, y = b.tensor((batch, 24), np.int8, 0.5, 3), b.tensor((batch, 3, 8), np.int8, 0.5, 3)
    b.op(
        "RESHAPE",
        [x, b.constant(np.array([batch, 24], np.int32))],
        [flat],
        options("ReshapeOptions", newShape=[batch, 24]),
    )
    b.op(
        "RESHAPE",
        [flat, b.constant(np.array([-1, 3, 8], np.int32))],
        [y],
        options("ReshapeOptions", newShape=[-1, 3, 8]),
    )
    model = b.finish([x], [y])
    codes = np.random.default_rng(0).integers(-128, 128, (count, 2, 3, 4), dtype=np.int8)
    assert np.array_equal(Engine(model).run(codes), codes.reshape(count, 3, 8))
    assert np.array_equal(interpret(model, codes, "xnnpack"), codes.reshape(count, 3, 8))


def test_slices_and_squeezes_of_a_whole_batch():
    """Constant bounds that name the file's one picture mean every picture given."""
    b = Builder()
    x, y = b.tensor((1, 5, 1, 4), np.int8, 0.5, 3), b.tensor((1, 3, 1, 4), np.int8, 0.5, 3)
    z = b.tensor((3, 4), np.int8, 0.5, 3)
    ints = [b.constant(np.array(v, np.int32)) for v in ([0, 1, 0, 0], [1, 4, 1, 4], [1, 1, 1, 1])]
    b.op("STRIDED_SLICE", [x, *ints], [y], options("StridedSliceOptions"), 2)
    b.op("SQUEEZE", [y], [z], options("SqueezeOptions"))
    model = b.finish([x], [y, z])
    codes = np.random.default_rng(0).integers(-128, 128, (6, 5, 1, 4), dtype=np.int8)
    sliced, squeezed = Engine(model).run(codes)
    assert np.array_equal(sliced, codes[:, 1:4]) and np.array_equal(squeezed, codes[:, 1:4, 0])
    assert np.array_equal(interpret(model, codes, "xnnpack")[0], sliced)


def test_shape_arithmetic_of_a_dynamic_batch():
    """SHAPE, STRIDED_SLICE, MUL and PACK around a reshape, as the converter writes them for an unknown batch."""
    b = Builder()
    x = b.tensor((1, 6, 4), np.int8, 0.5, 3, signature=(-1, 6, 4))
    shape, first = b.tensor((3,), np.int32), b.tensor((), np.int32)
    doubled, packed = b.tensor((), np.int32), b.tensor((3,), np.int32)
    y = b.tensor((2, 3, 4), np.int8, 0.5, 3, signature=(-1, 3, 4))
    ints = lambda *v: b.constant(np.array(v, np.int32))  # noqa: E731
    scalar = lambda v: b.constant(np.array(v, np.int32))  # noqa: E731
    b.op("SHAPE", [x], [shape], options("ShapeOptions", outType=2))
    b.op("STRIDED_SLICE", [shape, ints(0), ints(1), ints(1)], [first], options("StridedSliceOptions", shrinkAxisMask=1))
    b.op("MUL", [first, scalar(2)], [doubled], options("MulOptions"))
    b.op("PACK", [doubled, scalar(3), scalar(4)], [packed], options("PackOptions", valuesCount=3))
    b.op("RESHAPE", [x, packed], [y], options("ReshapeOptions"))
    codes = np.random.default_rng(0).integers(-128, 128, (1, 6, 4), dtype=np.int8)
    model = b.finish([x], [y])
    assert np.array_equal(Engine(model).run(codes), interpret(model, codes, "xnnpack"))
    assert Engine(model).run(np.zeros((5, 6, 4), np.int8)).shape == (10, 3, 4)


def test_blocks_of_pictures_change_nothing():
    rng = np.random.default_rng(0)
    b = Builder()
    x = b.tensor((1, 9, 9, 5), np.int8, 0.05, 3)
    w, bias = rng.integers(-127, 128, (8, 3, 3, 5), dtype=np.int8), rng.integers(-999, 999, 8, dtype=np.int32)
    y = b.tensor((1, 5, 5, 8), np.int8, 0.3, -3)
    o = options("Conv2DOptions", strideH=2, strideW=2)
    b.op("CONV_2D", [x, b.constant(w, 0.01), b.constant(bias, 0.0005)], [y], o, 3)
    engine = Engine(b.finish([x], [y]))
    codes = rng.integers(-128, 128, (40, 9, 9, 5), dtype=np.int8)
    one_by_one = np.concatenate([engine.run(codes[i : i + 1]) for i in range(40)])
    assert np.array_equal(engine.run(codes), one_by_one)


def test_the_accumulator_beyond_float32_is_exact():
    """K * 127 * 255 passes 2^24, where float32 sums would round: the engine changes to float64."""
    b = Builder()
    k = 4000
    x, y = b.tensor((1, k), np.int8, 1.0, -128), b.tensor((1, 1), np.int8, 2.0**20, 0)
    w = b.constant(np.full((1, k), 127, np.int8), 1.0)
    b.op("FULLY_CONNECTED", [x, w, b.constant(np.array([1], np.int32), 1.0)], [y], options("FullyConnectedOptions"), 5)
    engine = Engine(b.finish([x], [y]))
    codes = np.full((1, k), 127, np.int8)
    codes[0, 0] = 126
    assert engine.run(codes).tolist() == [[int(np.rint((127 * (255 * k - 1) + 1) / 2**20))]]
    assert np.array_equal(engine.run(codes), interpret(b.finish([x], [y]), codes, "xnnpack"))


def test_errors_of_run():
    engine = Engine(relu_file())
    with pytest.raises(ValueError, match=r"x: expected 1 array\(s\), one per model input .*, got 2"):
        engine.run([np.zeros((1, 4)), np.zeros((1, 4))])
    with pytest.raises(ValueError, match=r"input 'in': expected shape \(batch, 4,\), got \(1, 5\)"):
        engine.run(np.zeros((1, 5)))
    with pytest.raises(ValueError, match="input 'in': expected a batch of one or more times 1, got 0"):
        engine.run(np.zeros((0, 4)))
    with pytest.raises(ValueError, match="input 'in': expected numbers, got NaN"):
        engine.run(np.full((1, 4), np.nan))
    with pytest.raises(TypeError, match="input 'in': expected float values or int8 codes, got uint8"):
        engine.run(np.zeros((1, 4), np.uint8))
    with pytest.raises(ValueError, match="expected one batch for all inputs, got"):
        Engine(add_file()).run([np.zeros((1, 4)), np.zeros((2, 4))])


def test_float_input_wants_float():
    b = Builder()
    x, y = b.tensor((1, 4), np.float32, name="in"), b.tensor((1, 4), np.int8, 0.5, 3)
    b.op("QUANTIZE", [x], [y])
    engine = Engine(b.finish([x], [y]))
    with pytest.raises(TypeError, match="input 'in': expected float, got int8; the file has a float input"):
        engine.run(np.zeros((1, 4), np.int8))
    assert engine.run(np.ones((2, 4))).tolist() == [[1.0] * 4] * 2


def test_errors_of_reading(tmp_path):
    with pytest.raises(ValueError, match="expected a TFLite file .*TFL3.*, got b'"):
        read_model(b"no flatbuffer at all")
    with pytest.raises(ValueError, match="bytes: expected a whole TFLite file, got a damaged one"):
        read_model(relu_file()[:60])
    with pytest.raises(FileNotFoundError):
        read_model(tmp_path / "absent.tflite")
    with pytest.raises(ValueError, match="rounding: expected one of 'xnnpack', 'builtin', got 'tflite'"):
        Engine(relu_file(), rounding="tflite")


def test_an_unsupported_operator_is_named_with_its_position():
    b = Builder()
    x, y, z = (b.tensor((1, 4), np.int8, 0.5, 3) for _ in range(3))
    b.op("RELU", [x], [y])
    b.op("ABS", [y], [z])
    with pytest.raises(ValueError, match=r"operator 1 \(ABS\): not supported by the reference engine; expected"):
        Engine(b.finish([x], [z]))
    b.op("SomebodysOp", [y], [z])
    b.graph.operators.pop(1)
    with pytest.raises(ValueError, match=r"operator 1 \(SomebodysOp\): not supported"):
        Engine(b.finish([x], [z]))


def test_order_and_missing_values():
    b = Builder()
    x, y, z = (b.tensor((1, 4), np.int8, 0.5, 3) for _ in range(3))
    b.op("RELU", [z], [y])
    with pytest.raises(ValueError, match=r"operator 0 \(RELU\): input tensor 2 has no value yet"):
        Engine(b.finish([x], [y]))
    with pytest.raises(ValueError, match="output tensor 1: no operator computes it"):
        b.graph.operators.pop()
        Engine(b.finish([x], [y]))
    b.op("RELU", [9], [y])
    with pytest.raises(ValueError, match=r"operator 0 \(RELU\): expected tensor indices below 3, got 9"):
        Engine(b.finish([x], [y]))


def one_op(name, tensors, chosen=None, version=1):
    """A file of one operator: `tensors` are (shape, dtype, scale) activations or constant arrays."""
    b = Builder()
    inputs = [b.constant(t) if isinstance(t, np.ndarray) else b.tensor(*t) for t in tensors]
    y = b.tensor((1, 4), np.int8, 0.5, 3)
    b.op(name, inputs, [y], chosen, version)
    return b.finish([i for i, t in zip(inputs, tensors, strict=True) if not isinstance(t, np.ndarray)], [y])


X = ((1, 4), np.int8, 0.5, 3)
REFUSED = [
    (one_op("RELU", [((1, 4), np.float32)]), np.float32, "expected int8, got float32; export a full-integer file"),
    (one_op("FULLY_CONNECTED", [X, np.ones((2, 4), np.int8)]), np.int8, "expected int8 with scales and zero points 0"),
    (
        one_op("GATHER", [X, np.array([0], np.int32)], options("GatherOptions", batchDims=1)),
        np.int8,
        "expected batch_dims 0",
    ),
    (
        one_op("STRIDED_SLICE", [X] + [np.array([0, 0], np.int32)] * 3, options("StridedSliceOptions", newAxisMask=1)),
        np.int8,
        "expected begin, end and shrink masks only",
    ),
    (
        one_op("CONCATENATION", [((1, 4), np.int8, 0.7, 3)], options("ConcatenationOptions")),
        np.int8,
        "the output's scale 0.5",
    ),
]


@pytest.mark.parametrize("model,dtype,message", REFUSED)
def test_operators_refuse_what_they_do_not_mean(model, dtype, message):
    with pytest.raises(ValueError, match=r"^operator 0 \([A-Z_]+\): .*" + message):
        Engine(model).run(np.zeros((1, 4), dtype))


def conv_file(x_shape, w_shape, w_scales=1, padding=0):
    b = Builder()
    x, y = b.tensor(x_shape, np.int8, 0.5, 3), b.tensor((1, 1, 1, 1), np.int8, 0.5, 3)
    w = b.constant(np.ones(w_shape, np.int8), np.full(w_scales, 0.1))
    bias = b.constant(np.zeros(w_shape[0], np.int32), 0.05)
    b.op("CONV_2D", [x, w, bias], [y], options("Conv2DOptions", padding=padding, strideH=1, strideW=1), 3)
    return b.finish([x], [y])


def test_convolutions_refuse_shapes_that_do_not_fit():
    x = np.zeros((1, 4, 4, 3), np.int8)
    with pytest.raises(ValueError, match="expected input channels a multiple of the filter's 2, got 3 channels"):
        Engine(conv_file((1, 4, 4, 3), (5, 1, 1, 2))).run(x)
    with pytest.raises(ValueError, match=r"kernel \(5, 5\) does not fit into an input of 4x4 with VALID padding"):
        Engine(conv_file((1, 4, 4, 3), (5, 5, 5, 3), padding=1)).run(x)
    with pytest.raises(ValueError, match="expected 1 or 5 scales, got 3"):
        Engine(conv_file((1, 4, 4, 3), (5, 1, 1, 3), w_scales=3)).run(x)


def test_other_layers_refuse_shapes_that_do_not_fit():
    w, scale = np.ones((2, 3), np.int8), {"scale": 0.1}
    for keep, message in [(False, "size is divisible by the 3"), (True, "last axis is the 3")]:
        b = Builder()
        x, y = b.tensor(X[0], *X[1:]), b.tensor((1, 2), np.int8, 0.5, 3)
        b.op(
            "FULLY_CONNECTED", [x, b.constant(w, **scale), -1], [y], options("FullyConnectedOptions", keepNumDims=keep)
        )
        with pytest.raises(ValueError, match=rf"expected an input whose {message} input features, got shape \(1, 4\)"):
            Engine(b.finish([x], [y])).run(np.zeros((1, 4), np.int8))
    b = Builder()
    x, y = b.tensor((1, 4, 4, 3), np.int8, 0.5, 3), b.tensor((1, 4, 4, 4), np.int8, 0.5, 3)
    o = options("DepthwiseConv2DOptions", strideH=1, strideW=1, depthMultiplier=1)
    b.op("DEPTHWISE_CONV_2D", [x, b.constant(np.ones((1, 1, 1, 4), np.int8), **scale), -1], [y], o)
    with pytest.raises(ValueError, match="expected a multiple of the 3 input channels as depthwise filters, got 4"):
        Engine(b.finish([x], [y])).run(np.zeros((1, 4, 4, 3), np.int8))


def test_an_accumulator_beyond_int32_is_refused():
    b = Builder()
    x, y = b.tensor((1, 4), np.int8, 0.5, -128), b.tensor((1, 1), np.int8, 1e6, 0)
    w, bias = b.constant(np.full((1, 4), 127, np.int8), 1.0), b.constant(np.array([2**31 - 1], np.int32), 0.5)
    b.op("FULLY_CONNECTED", [x, w, bias], [y], options("FullyConnectedOptions"))
    engine = Engine(b.finish([x], [y]))
    engine.run(np.full((1, 4), -128, np.int8))
    with pytest.raises(ValueError, match="the int32 accumulator overflows; expected weights and bias that keep it"):
        engine.run(np.full((1, 4), 127, np.int8))


def test_tensors_that_cannot_be_read():
    b = Builder()
    x = b.tensor((1, 4), np.int8, [0.5, 0.25], [3, 3], name="in")
    y = b.tensor((1, 4), np.int8, 0.5, 3)
    b.op("RELU", [x], [y])
    with pytest.raises(ValueError, match="tensor 'in': expected one scale and zero point, got 2 scales"):
        Engine(b.finish([x], [y])).run(np.zeros((1, 4), np.int8))
    b.graph.tensors[x].quantization.scale = np.ones(3, np.float32)
    with pytest.raises(ValueError, match="tensor 'in': expected 3 zero points, got 2"):
        Engine(b.finish([x], [y]))
    b.graph.tensors[x].type = 4 + 4  # COMPLEX64
    with pytest.raises(ValueError, match="tensor 'in': type COMPLEX64 is not supported"):
        Engine(b.finish([x], [y]))
    b = Builder()
    c = b.constant(np.zeros(4, np.int8), 0.5, 3)
    b.graph.tensors[c].shape = [5]
    with pytest.raises(ValueError, match=r"tensor 't0': expected \(5,\) int8, got 4 bytes"):
        Engine(b.finish([], [c]))


def test_arithmetic_of_other_types_is_refused_and_of_floats_computed():
    b = Builder()
    x, y = b.tensor((1, 4), np.int16), b.tensor((1, 4), np.int16)
    b.op("MUL", [x, x], [y], options("MulOptions"))
    with pytest.raises(
        ValueError, match="expected int8, int32 or int64 tensors, got int16; export a full-integer file"
    ):
        Engine(b.finish([x], [y])).run(np.zeros((1, 4), np.int16))
    b = Builder()
    x, y = b.tensor((1, 4), np.float32), b.tensor((1, 4), np.float32)
    b.op("MUL", [x, x], [y], options("MulOptions"))
    np.testing.assert_array_equal(Engine(b.finish([x], [y])).run(np.full((1, 4), 3, np.float32)), [[9] * 4])


def test_what_python_raises_in_a_malformed_operator_is_named():
    b = Builder()
    x, y = b.tensor((1, 4, 4, 3), np.int8, 0.5, 3), b.tensor((1, 4, 4, 3), np.int8, 0.5, 3)
    b.op("MAX_POOL_2D", [x], [y], options("Pool2DOptions", filterHeight=2, filterWidth=2, strideH=0, strideW=1))
    with pytest.raises(ValueError, match=r"operator 0 \(MAX_POOL_2D\): the file is malformed \(ZeroDivisionError"):
        Engine(b.finish([x], [y])).run(np.zeros((1, 4, 4, 3), np.int8))


def test_grouped_convolution():
    rng = np.random.default_rng(0)
    b = Builder()
    x, y = b.tensor((1, 6, 6, 12), np.int8, 0.05, 3), b.tensor((1, 6, 6, 8), np.int8, 0.3, -3)
    w, bias = rng.integers(-127, 128, (8, 3, 3, 3), dtype=np.int8), rng.integers(-999, 999, 8, dtype=np.int32)
    b.op("CONV_2D", [x, b.constant(w, np.full(8, 0.01)), b.constant(bias, np.full(8, 5e-4))], [y],
         options("Conv2DOptions", strideH=1, strideW=1), 6)  # fmt: skip
    model = b.finish([x], [y])
    codes = rng.integers(-128, 128, (3, 6, 6, 12), dtype=np.int8)
    assert np.array_equal(Engine(model).run(codes), interpret(model, codes, "xnnpack"))
