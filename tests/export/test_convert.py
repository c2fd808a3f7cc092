"""Keras -> file: the integers in the file are the integers that were trained."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from tests import nets
from tests.export.oracle import expected, folded_kernels, kernels, levels, quantized

L = keras.layers


@pytest.mark.parametrize(
    "build, branches",
    [(nets.mobilenet_v1, 1), (nets.separable, 2), (nets.nested, 1)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_file_holds_the_trained_integers(build, branches):
    model = build()
    q_model = quantized(model, branches=branches)
    wanted, floats = expected(model, q_model), folded_kernels(model, q_model)
    report = keras_dbq.export_tflite(q_model, None, "int8", strict=True, round_model_biases=False)
    found = kernels(report.data)
    assert set(wanted) == {name for name in found if "pooling" not in name}
    for name, (values, scale, bias) in wanted.items():
        weights, file_scale, file_bias, input_scale = found[name]
        np.testing.assert_array_equal(weights, values, err_msg=name)
        np.testing.assert_allclose(file_scale, scale, rtol=2e-7, err_msg=name)
        np.testing.assert_array_equal(
            file_bias, np.rint(bias / (np.float64(input_scale) * np.float64(file_scale))), err_msg=name
        )
        # Each weight is the level nearest to w * gamma / sqrt(variance + epsilon) of the float model.
        real = floats[name] / np.float64(file_scale)
        nearest = np.abs(real[:, :, None] - levels(q_model, name)).min(-1)
        np.testing.assert_allclose(np.abs(weights - real), nearest, rtol=0, atol=1e-4, err_msg=name)
    ternary = [row for row in report.layers if row.branches]
    assert ternary and all(row.branches <= branches and row.encoding == "int8" for row in ternary)
