"""The way back from packed files."""

import numpy as np
import pytest

from keras_dbq.export import pack_tflite, unpack_tflite
from keras_dbq.runtime.interpreter import Interpreter
from keras_dbq.tflite import flatbuffer as fb
from tests.tflite.cases import CASES
from tests.tflite_ops import packed_models


@pytest.fixture(params=CASES, ids=list(CASES))
def case(request):
    return CASES[request.param]


def integers(data):
    """Weights and bias of the first operator of an int8 file."""
    model = fb.load_model(data)
    operator = model.subgraphs[0].operators[0]
    return [fb.constant(model, int(i)) for i in operator.inputs[1:3]], operator.builtinOptions.__dict__


def test_unpack_is_the_way_back(case):
    source = packed_models.int8_model(case)
    data = unpack_tflite(pack_tflite(source).data)
    (weights, bias), options = integers(data)
    (expected_weights, expected_bias), expected_options = integers(source)
    np.testing.assert_array_equal(weights, expected_weights)
    np.testing.assert_array_equal(bias, expected_bias)
    assert options == expected_options
    x = packed_models.random_input(case)
    expected = Interpreter(source, delegate=False).predict(x)
    np.testing.assert_array_equal(Interpreter(data, delegate=False).predict(x), expected)
    assert pack_tflite(data).data == pack_tflite(source).data


def test_damaged_codes_do_not_unpack():
    arrays = packed_models.constant_arrays(CASES["conv"])
    arrays["codes"][3] = 243
    with pytest.raises(ValueError, match="codes: expected bytes up to 242, got 243"):
        unpack_tflite(packed_models.packed_model(CASES["conv"], arrays))
