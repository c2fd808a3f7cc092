"""CodeQuantizer: its constants, what calibration sets, its grid, bad arguments."""

import numpy as np
import pytest

from keras_dbq.calibration import Batches, observe_ranges
from keras_dbq.compat import keras, tf
from keras_dbq.ops import codes
from keras_dbq.quantizers import CodeQuantizer, deserialize, serialize
from keras_dbq.wrapping.layers import CodeTable, QuantizeTensor

X = np.random.default_rng(0).normal(size=(400, 30)).astype(np.float32)


def built(quantizer):
    layer = QuantizeTensor(quantizer)
    model = keras.Sequential([keras.Input((30,)), keras.layers.ReLU(), layer])
    return model, layer


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("sparsity", [None, 0.5, 0.75])
def test_gaussian_codes_need_no_data_and_stay(bits, sparsity):
    model, layer = built(CodeQuantizer(bits, sparsity))
    observe_ranges(model, Batches(100 * X, model))
    model.compile("sgd", "mse")
    model.fit(X, X, verbose=0)
    wanted = codes.half_wave_gaussian(bits, sparsity)
    scale, zero_point = layer.quantizer.grid(layer.quantizer_vars)
    assert scale == pytest.approx(wanted.step, rel=1e-6) and zero_point == 128 - 2**bits
    y = model.predict(X, verbose=0)
    found = set(np.unique(np.rint(y / scale)))
    assert found <= set(range(2**bits)) and {0, 2**bits - 1} <= found
    np.testing.assert_allclose(
        y, codes.sparse_codes(X, wanted.threshold, wanted.step, bits, sparsity is None), atol=1e-6
    )


@pytest.mark.parametrize("sparsity", [None, 0.7])
def test_codes_from_data_follow_its_scale(sparsity):
    found = []
    for factor in (1.0, 5.0):
        model, layer = built(CodeQuantizer(2, sparsity, "data"))
        observe_ranges(model, Batches(factor * X, model))
        found.append((float(layer.quantizer.grid(layer.quantizer_vars)[0]), float(layer.quantizer_vars["threshold"])))
        assert (model.predict(factor * X, verbose=0) == 0).mean() == pytest.approx(sparsity or 0.627, abs=0.01)
    assert found[1][0] == pytest.approx(5 * found[0][0], rel=0.03)
    assert found[0][0] == pytest.approx(codes.half_wave_gaussian(2, sparsity).step, rel=0.03)


def test_a_tensor_of_zeros_gets_a_range_of_one():
    model, layer = built(CodeQuantizer(2, 0.7, "data"))
    observe_ranges(model, Batches(-np.abs(X), model))
    assert float(layer.quantizer.grid(layer.quantizer_vars)[0]) == pytest.approx(1 / 3)


def test_near_half_a_step_is_half_a_step():
    assert CodeQuantizer(2, 0.625).rounded and not CodeQuantizer(2, 0.625, "data").rounded
    assert not CodeQuantizer(2, 0.5).rounded and CodeQuantizer(3).rounded


def test_config_and_saving(tmp_path):
    quantizer = deserialize(serialize(CodeQuantizer(3, 0.6, "data")))
    assert quantizer.get_config() == {"bits": 3, "sparsity": 0.6, "fit": "data"}
    model = keras.Sequential([keras.Input((30,)), CodeTable(CodeQuantizer(2, 0.8), name="codes")])
    model.layers[0].quantizer_vars["high"].assign(2.0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert np.array_equal(model.predict(X, verbose=0), again.predict(X, verbose=0))


def test_half_precision_stays():
    quantizer = CodeQuantizer()
    layer = QuantizeTensor(quantizer)
    layer.build((None, 4))
    assert quantizer(tf.zeros((2, 4), tf.float16), False, layer.quantizer_vars).dtype == tf.float16


@pytest.mark.parametrize(
    "options, message",
    [
        ({"bits": 5}, "activation bits: expected an integer from 1 to 4, got 5"),
        ({"sparsity": 0.4}, "sparsity: expected a number from 0.5 to 0.95, got 0.4"),
        ({"fit": "best"}, "fit: expected one of 'gaussian', 'data', got 'best'"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        CodeQuantizer(**options)
