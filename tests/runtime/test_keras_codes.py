"""The Keras side of `verify`: which activation is which tensor of the file, and what each layer computes."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.reference import Engine
from keras_dbq.runtime.keras_codes import KerasCodes, to_codes
from keras_dbq.wrapping import naming, wrappers
from tests import nets

L = keras.layers


def exported(model):
    scheme = keras_dbq.DBQScheme(branches=1, ternary_first=True, ternary_last=True)
    q_model = keras_dbq.quantize_model(model, scheme, calibration_data=nets.pictures())
    return q_model, keras_dbq.export_tflite(q_model, None, strict=True).data


@pytest.fixture(scope="module")
def q_model_and_file():
    return exported(nets.mobilenet_v1())


def test_a_changed_range_is_reported(q_model_and_file):
    q_model, packed = q_model_and_file
    tensor = next(tensor for tensor in naming.quantized_outputs(q_model) if tensor.name == "pw0")
    high = wrappers.quantized_output(tensor.node.layer).variables["high"]
    kept = high.numpy()
    try:
        high.assign(kept * 1.5)
        assert KerasCodes(q_model, Engine(packed)).missing == ["pw0"]
        report = keras_dbq.verify(q_model, packed, nets.pictures(8), raise_on_failure=False)
        assert report.changed == ["pw0"] and "Keras quantizes 'pw0' on grids that the file" in report.problems()[0]
    finally:
        high.assign(kept)


def test_layers_get_the_files_codes(q_model_and_file):
    q_model, packed = q_model_and_file
    side, engine, x = KerasCodes(q_model, Engine(packed)), Engine(packed), nets.pictures(3)
    _, tensors = engine.run(x, all_tensors=True)
    honest = side.run_by_layer([x], tensors)
    assert set(honest.codes) == {output.name for output in naming.quantized_outputs(q_model)}
    # Other codes for one tensor: the layers behind it compute from those, the layer itself and those before it do not.
    other = side.run_by_layer([x], {**tensors, "pw0": np.flip(tensors["pw0"], 0)})
    changed = [name for name in honest.codes if not np.array_equal(honest.codes[name], other.codes[name])]
    assert changed == ["dw1"]


def test_a_shared_layer_is_compared_at_every_call():
    inputs = keras.Input(nets.SHAPE, name="image")
    conv = L.Conv2D(3, 1, name="shared", activation="relu")
    q_model, packed = exported(keras.Model(inputs, conv(conv(inputs))))
    report = keras_dbq.verify(q_model, packed, nets.pictures(4), top1_threshold=0)
    assert [row.name for row in report.rows] == ["image", "shared", "shared#2"]
    assert all(row.keras_codes == row.codes and row.keras_largest <= 1 for row in report.rows)
    # What the model gives at its end is what follows from its last call, not from its first.
    engine, x = Engine(packed), nets.pictures(4)
    outputs, tensors = engine.run(x, all_tensors=True)
    by_layer = KerasCodes(q_model, engine).run_by_layer([x], tensors)
    np.testing.assert_array_equal(by_layer.outputs[0], outputs)


def test_codes_of_numbers_on_a_grid():
    codes = np.arange(-128, 128, dtype=np.int8)
    scale = np.float32(0.0371)
    real = (codes.astype(np.float32) - np.float32(7)) * scale
    np.testing.assert_array_equal(to_codes(real, scale, 7), codes)
