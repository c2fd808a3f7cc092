"""What layers cost: against counts by hand, and against the bytes of a file."""

import math

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.inspection.cost import Kernel, cost, full_adders
from keras_dbq.inspection.profile import _macs, _numbers
from keras_dbq.tflite import flatbuffer as fb
from tests import nets

L = keras.layers


def test_linear_weights_by_hand():
    kernel = Kernel(length=9, channels=4, dot_products=400, branches=0, weight_bits=6, input_bits=8, nonzero=(30,))
    found = cost(kernel, inputs=250)
    assert found.multiplications == found.additions == 400 * 9
    assert found.full_adders == 400 * (9 * 8 * 6 + 8 * (8 + 6 + 4 - 1))  # ceil(log2 9) = 4
    assert found.full_adders_sparse == 400 * (8 * 8 * 6 + 7 * (8 + 6 + 3 - 1))  # 30 / 4 is 8 of 9
    assert found.representation_bits == 6 * 36 + 8 * 250
    assert found.memory_bits == found.disk_bits == 6 * 36
    assert found.file_bytes == 36 + 4 * 4 + 4 * 4 + 4 * 4 + 8 * 4


def test_two_branches_by_hand():
    kernel = Kernel(length=16, channels=8, dot_products=80, branches=2, weight_bits=8, input_bits=8, nonzero=(96, 32))
    found = cost(kernel, inputs=100)
    assert found.additions == 10 * (96 + 32) + 80 and found.multiplications == 2 * 80
    dense = (15 * 13 + 8 * 13) + (15 * 13 + 8 * 13 + 13 + 8)
    assert found.full_adders == 80 * dense  # sums of 8 + 1 + log2 16 = 13 bits
    sparse = (11 * 13 + 8 * 13) + (3 * 11 + 8 * 11 + 11 + 8)  # 12 and 4 non-zero codes a channel
    assert found.full_adders_sparse == 80 * sparse
    assert found.memory_bits == 2 * 2 * 128 + 8 * 2 * 8
    assert found.disk_bits == pytest.approx(2 * 128 * math.log2(3) + 8 * 2 * 8)
    assert found.representation_bits == 4 * 128 + 8 * 100
    assert found.file_bytes == 2 * 26 + 2 * 8 + 4 * 10 + 4 * 8 + 64
    assert kernel.density == [0.75, 0.25]


def test_a_branch_of_zeros_takes_no_adders():
    kernel = Kernel(length=16, channels=8, dot_products=80, branches=1, weight_bits=8, input_bits=8, nonzero=(0,))
    assert full_adders(kernel, sparse=True) == 0 < full_adders(kernel, sparse=False)


@pytest.mark.parametrize("make", [nets.mobilenet_v1, nets.resnet])
def test_bytes_are_those_of_the_file(make):
    q_model = nets.quantized(make)
    model = fb.load_model(keras_dbq.export_tflite(q_model, None, strict=True).data)
    expected = sorted(p.cost.file_bytes for p in keras_dbq.profile(q_model) if p.cost)
    found = [own_bytes(model, operator) for operator in model.subgraphs[0].operators]
    assert expected and sorted(filter(None, found)) == expected


def own_bytes(model, operator):
    """Bytes of an operator's constants, each vector in it counted once; 0 of an operator without weights."""
    if len(operator.inputs) < 3 or not fb.is_constant(model, int(operator.inputs[1])):
        return 0
    vectors = {}
    for index in operator.inputs[1:]:
        tensor = model.subgraphs[0].tensors[int(index)]
        q = tensor.quantization
        vectors[f"data {index}"] = len(model.buffers[tensor.buffer].data)
        if q is not None and q.scale is not None:
            vectors[f"scales {index}"] = 4 * len(q.scale)
            vectors["zero points"] = 8 * len(q.zeroPoint)  # of weights and bias: one vector
    return sum(vectors.values())


def test_shapes_bits_and_activations():
    inputs = keras.Input((6, 6, 3), name="image")
    x = L.ReLU(6.0, name="relu")(L.Conv2D(4, 3, name="first")(inputs))
    x = L.Dense(5, name="points")(x)  # on every place
    shared = L.Dense(5, name="shared")
    model = keras.Model(inputs, L.Dense(2, name="last")(L.Flatten()(shared(shared(x)))))
    scheme = keras_dbq.DBQScheme(branches=1, activation_bits=6)
    q_model = keras_dbq.quantize_model(model, scheme, nets.pictures(8, shape=(6, 6, 3)))
    rows = {p.name: p for p in keras_dbq.profile(q_model)}
    assert rows["first"].output_shape == (4, 4, 4) and rows["first"].macs == 16 * 27 * 4
    assert rows["first"].kernel.input_bits == 8 and rows["points"].kernel.input_bits == 6
    assert rows["points"].macs == 16 * 4 * 5 and rows["shared"].macs == 2 * 16 * 5 * 5
    assert rows["relu"].activation_bytes == 4 * 4 * 4 and rows["first"].activation_bytes == 0
    assert rows["shared"].activation_bytes == 2 * 4 * 4 * 5
    assert rows["points"].cost.additions == 16 * int(np.sum(rows["points"].kernel.nonzero))


def test_unknown_sizes_count_as_nothing():
    assert _numbers([(None, 4, 3), (2, 3)]) == 6
    assert _macs(L.Conv2D(4, 3), 108, [(None, None, 4), (5, 6, 4)]) == 108 * 30
