"""Whole files of others, on real pictures: zero differing codes in both roundings, and layer by layer."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from keras_dbq.reference import Engine
from tests.reference.tflite_builder import RESOLVERS, assert_same_codes, interpret

FILES = ["vww_96_int8", "pretrainedResnet_quant", "tf2_mobilenet_v2_1.0_224_ptq"]
BOTH = pytest.mark.parametrize("rounding", ["xnnpack", "builtin"])


@pytest.fixture(scope="module")
def pictures(request, data_dir, load_data):
    """uint8 pictures of each file's input size, by file."""
    large, _ = load_data.jpeg_set(data_dir / "imagenet_val_first1000_224.npz", limit=10)
    photos, _ = load_data.jpeg_set(data_dir / "vww_coco_96.npz", limit=100)
    return {FILES[0]: photos, FILES[1]: np.ascontiguousarray(photos[:, 32:64, 32:64]), FILES[2]: large}


def own_codes(engine, images):
    """The pictures as the file's input type holds them (all three files take 0..255 shifted to their type)."""
    return images if engine.inputs[0].dtype == np.uint8 else (images.astype(np.int16) - 128).astype(np.int8)


@BOTH
@pytest.mark.parametrize("name", FILES)
def test_files_on_real_pictures(name, rounding, pictures, weights_dir):
    model = (weights_dir / f"{name}.tflite").read_bytes()
    engine = Engine(model, rounding)
    images = pictures[name]
    if rounding == "builtin":
        images = images[: 4 if name == FILES[2] else 30]
    codes = own_codes(engine, images)
    assert_same_codes(interpret(model, codes, rounding), engine.run(codes))


@BOTH
@pytest.mark.parametrize("name", FILES)
def test_every_layer(name, rounding, pictures, weights_dir):
    """Every activation of one picture, so that a later layer cannot hide what an earlier one gets wrong."""
    model = (weights_dir / f"{name}.tflite").read_bytes()
    engine = Engine(model, rounding)
    codes = own_codes(engine, pictures[name][:1])
    interpreter = Interpreter(
        model_content=model, experimental_op_resolver_type=RESOLVERS[rounding], experimental_preserve_all_tensors=True
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], codes)
    interpreter.invoke()
    _, tensors = engine.run(codes, all_tensors=True)
    compared = 0
    for tensor in engine.model.tensors:
        if tensor.name not in tensors:
            continue
        try:
            expected = interpreter.get_tensor(tensor.index)
        except ValueError:  # the delegate keeps no copy of this one
            continue
        assert_same_codes(expected, tensors[tensor.name])
        compared += 1
    assert compared >= (len(engine.model.operators) if rounding == "builtin" else 2)


def test_float_pictures_are_quantized_by_the_files_scale(pictures, weights_dir):
    engine = Engine(weights_dir / "vww_96_int8.tflite")
    images = pictures["vww_96_int8"][:5]
    real = engine.run(images.astype(np.float32) / 255)
    codes = engine.run(own_codes(engine, images))
    assert real.dtype == np.float32
    assert np.array_equal(real, (codes.astype(np.float32) + 128) / 256)
