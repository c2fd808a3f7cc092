"""Operations on tensors that compute: operators, keras.ops functions, reductions, activations."""

import numpy as np
import pytest
from keras.src.ops import numpy as ops_numpy

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.keras3 import operations
from tests.keras3.networks import K, check, keras_3

MAP = (6, 6, 4)
UNARY = [
    lambda x: K.abs(x),
    lambda x: -x,
    lambda x: K.square(x),
    lambda x: K.sqrt(K.abs(x) + 1.0),
    lambda x: K.rsqrt(K.square(x) + 0.1),
    lambda x: K.exp(x),
    lambda x: K.log(K.exp(x)),
    lambda x: K.log1p(K.abs(x)),
    lambda x: K.expm1(x),
    lambda x: K.sign(x),
    lambda x: K.floor(x) + K.ceil(x),
    lambda x: K.sin(x) + K.cos(x),
    lambda x: K.erf(x),
    lambda x: K.reciprocal(K.exp(x)),
    lambda x: K.stop_gradient(x),
    lambda x: K.copy(x),
    lambda x: K.clip(x, -0.5, 0.75),
    lambda x: K.cast(K.cast(x, "int32"), "float32"),
    lambda x: K.relu(x),
    lambda x: K.relu6(x * 5),
    lambda x: keras_3.activations.relu(x, negative_slope=0.1, max_value=1.0, threshold=0.2),
    lambda x: K.leaky_relu(x, negative_slope=0.3),
    lambda x: K.sigmoid(x),
    lambda x: K.tanh(x),
    lambda x: K.silu(x),
    lambda x: K.softplus(x),
    lambda x: K.softsign(x),
    lambda x: K.selu(x),
    lambda x: K.elu(x, alpha=0.7),
    lambda x: K.gelu(x),
    lambda x: K.gelu(x, approximate=False),
    lambda x: K.hard_sigmoid(x * 4),
    lambda x: K.hard_silu(x * 4),
    lambda x: K.hard_tanh(x),
    lambda x: K.log_sigmoid(x),
    lambda x: K.tanh_shrink(x),
    lambda x: K.softmax(x),
    lambda x: K.softmax(x, axis=1),
    lambda x: K.log_softmax(x),
    lambda x: K.mean(x, axis=(1, 2)),
    lambda x: K.mean(x, axis=(-2, -3), keepdims=True),
    lambda x: K.mean(x, axis=-1, keepdims=True),
    lambda x: K.max(x, axis=(1, 2)),
    lambda x: K.amax(x, axis=1),
    lambda x: K.min(x, axis=-1),
    lambda x: K.amin(x, axis=-1),
    lambda x: K.sum(x, axis=(1, 3)),
    lambda x: K.prod(x, axis=3),
    lambda x: K.var(x, axis=(1, 2), keepdims=True),
    lambda x: K.std(x, axis=-1),
    lambda x: K.logsumexp(x, axis=-1),
    lambda x: K.any(x > 0.5, axis=-1),
    lambda x: K.all(x > -2, axis=-1),
    lambda x: K.where(K.logical_not(x > 0.0), x, 0.5),
    lambda x: K.where(K.logical_or(K.logical_and(x > 0, x < 1), x >= 2), x, x * 2.0),
    lambda x: K.where(K.equal(K.floor(x), 0.0), x, K.cast(x <= 1, "float32")),
    lambda x: K.not_equal(K.floor(x), 0.0),
]
BINARY = [
    lambda a, b: a + b,
    lambda a, b: 1 - a * 2 + b / 3.0,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a / (K.abs(b) + 1),
    lambda a, b: K.divide_no_nan(a, K.maximum(b, 0.0)),
    lambda a, b: K.maximum(a, b) - K.minimum(a, b),
    lambda a, b: K.maximum(a, K.mean(b, axis=(1, 2), keepdims=True)),
    lambda a, b: a * K.mean(b, axis=(1, 2))[:, None, None, :],
    lambda a, b: a + K.mean(b, axis=(0, 1)),  # another rank
    lambda a, b: a**2 + 2.0 ** (-K.abs(b)),
    lambda a, b: a // 0.5 + b % 0.5,
    lambda a, b: a * np.array([1.0, 2, 3, 4], np.float32) + K.convert_to_tensor([[0.5, 1, 1.5, 2]]),
    lambda a, b: K.matmul(a, K.transpose(b, (0, 1, 3, 2))),
    lambda a, b: a @ np.ones((4, 3), np.float32),
    lambda a, b: K.einsum("bhwc,bhwd->bcd", a, b),
    lambda a, b: K.cast(a > 0, "int32") * b,
    lambda a, b: K.add(a, K.cast(b, "float16")),
]


@pytest.mark.parametrize("make", UNARY, ids=range(len(UNARY)))
def test_operations_of_one_tensor(make):
    x = keras_3.Input(MAP)
    check(keras_3.Model(x, make(x)))


@pytest.mark.parametrize("make", BINARY, ids=range(len(BINARY)))
def test_operations_of_two_tensors(make):
    a, b = keras_3.Input(MAP), keras_3.Input(MAP)
    check(keras_3.Model([a, b], make(a, b)))


def test_layers_where_there_are_some():
    """Quantization knows more of layers than of operators on tensors; the names stay."""
    x = keras_3.Input(MAP)
    y = K.relu(x)
    y = K.mean(K.maximum(x + y, x * y), axis=(1, 2))
    new = check(keras_3.Model(x, K.softmax(y)))
    assert [type(layer).__name__ for layer in new.layers[1:]] == [
        "ReLU", "Add", "Multiply", "Maximum", "GlobalAveragePooling2D", "Softmax"
    ]  # fmt: skip
    with_names = keras_3.Model(x, ops_numpy.Add(name="total")(x, 2.0))
    assert check(with_names).layers[-1].name == "total"


class MyOperation(keras_3.Operation):
    def call(self, x):
        return x

    def compute_output_spec(self, x):
        return keras_3.KerasTensor(x.shape, x.dtype)


REFUSED = [
    (
        lambda x: K.cumsum(x, axis=1),
        "operation 'cum.*' of type Cumsum: keras.ops.Cumsum is not in this package's table",
    ),
    (lambda x: MyOperation(name="mine")(x), "operation 'mine' of type MyOperation: a class of .*; write it with"),
    (lambda x: K.mean(K.cast(x, "int32"), axis=1), "of numbers of int32; cast them to float"),
    (lambda x: K.max(x, axis=1, initial=3.0), "its options initial or dtype; leave them out"),
    (lambda x: K.cast(x, "int32") / K.cast(x + 1, "int32"), "numbers of int32; cast them with keras.ops.cast"),
    (lambda x: K.cast(x, "int32") * 0.5, "int32 with a constant that is no whole number"),
    (lambda x: K.matmul(x, np.ones(4, np.float32)), "matmul with a vector; add an axis"),
    (lambda x: x * keras_3.Variable(np.ones(4, np.float32)), "reads a variable that belongs to no layer"),
]


@pytest.mark.parametrize("make, message", REFUSED, ids=lambda v: v if isinstance(v, str) else None)
def test_refused_operations(make, message):
    x = keras_3.Input(MAP)
    with pytest.raises(ValueError, match=message) as caught:
        keras_dbq.from_keras3(keras_3.Model(x, make(x)))
    assert "\n" not in str(caught.value)


def test_every_operation_of_the_tables_exists_in_keras_3_and_stands_once():
    from keras.src.activations import activations
    from keras.src.ops import core, image, math, nn

    names = [name for table, _ in operations._KINDS for name in table]
    modules = (activations, core, image, math, nn, ops_numpy)
    assert len(set(names)) == len(names)
    assert not [name for name in names if not any(hasattr(module, name) for module in modules)]
    assert all(keras.activations.get(name) for name in operations._ACTIVATIONS.values())
