"""Operations on tensors that move, select and join values, and pooling."""

import numpy as np
import pytest

import keras_dbq
from tests.keras3.networks import K, check, keras_3

MAP = (6, 8, 4)
CASES = [
    lambda x: K.reshape(x, (-1, 6 * 8, 4)),
    lambda x: K.reshape(x, (-1, 6, 8, 2, 2)),
    lambda x: K.reshape(x, (-1, 4)),
    lambda x: K.reshape(x, -1),
    lambda x: K.ravel(x),
    lambda x: K.transpose(x, (0, 3, 1, 2)),
    lambda x: K.transpose(x, (1, 0, 2, 3)),
    lambda x: K.transpose(x),
    lambda x: K.swapaxes(x, 1, -1),
    lambda x: K.moveaxis(x, 1, -1),
    lambda x: K.moveaxis(x, (1, 2), (3, 1)),
    lambda x: K.concatenate([x, x * 2.0], axis=-1),
    lambda x: K.concatenate([x, x * 2.0], axis=0),
    lambda x: K.concatenate([x, x * 2.0, x], axis=2),
    lambda x: K.stack([x, x * 2.0], axis=1),
    lambda x: K.split(x, 2, axis=-1),
    lambda x: K.split(x, [1, 3], axis=3)[1],
    lambda x: K.unstack(x, 6, axis=1)[2],
    lambda x: K.expand_dims(x, 1),
    lambda x: K.squeeze(K.mean(x, axis=1, keepdims=True), 1),
    lambda x: K.squeeze(K.mean(x, axis=(1, 2), keepdims=True), (1, 2)),
    lambda x: K.pad(x, ((0, 0), (1, 2), (0, 3), (0, 0))),
    lambda x: K.pad(x, ((0, 0), (1, 2), (0, 3), (0, 1)), constant_values=2.5),
    lambda x: K.pad(x, ((0, 0), (1, 2), (0, 3), (0, 0)), mode="reflect"),
    lambda x: x[:, ::2, 1:-1],
    lambda x: x[..., 1],
    lambda x: x[:, None, 2, ..., :3],
    lambda x: K.take(x, [2, 0, 2], axis=-1),
    lambda x: K.take(x, 3, axis=2),
    lambda x: K.tile(x, (1, 1, 2, 1)),
    lambda x: K.tile(x, (2,)),
    lambda x: K.repeat(x, 3, axis=2),
    lambda x: K.flip(x, axis=1),
    lambda x: K.flip(x, axis=(1, 2)),
    lambda x: K.roll(x, 2, axis=1),
    lambda x: K.argmax(x, axis=-1),
    lambda x: K.image.resize(x, (3, 9)),
    lambda x: K.image.resize(x, (12, 16), interpolation="nearest"),
    lambda x: K.max_pool(x, 2),
    lambda x: K.max_pool(x, 3, strides=2, padding="same"),
    lambda x: K.average_pool(x, (2, 3), strides=1),
    lambda x: K.depth_to_space(x, 2),
    lambda x: K.space_to_depth(x, 2),
]


@pytest.mark.parametrize("make", CASES, ids=range(len(CASES)))
def test_moved_values_are_equal(make):
    x = keras_3.Input(MAP)
    check(keras_3.Model(x, make(x)))


def test_the_batch_stays_in_layers():
    x = keras_3.Input(MAP)
    shuffled = K.transpose(K.reshape(x, (-1, 6, 8, 2, 2)), (0, 1, 2, 4, 3))
    padded = K.pad(K.concatenate([K.reshape(shuffled, (-1, *MAP)), x]), ((0, 0), (1, 1), (1, 1), (0, 0)))
    kinds = [type(layer).__name__ for layer in check(keras_3.Model(x, padded)).layers[1:]]
    assert kinds[:3] == ["Reshape", "Permute", "Reshape"] and kinds[-1] == "ZeroPadding2D"


REFUSED = [
    (lambda x: K.expand_dims(x, (1, 2)), "expand_dims of several axes"),
    (lambda x: K.squeeze(K.mean(x, axis=1, keepdims=True)), "squeeze without an axis"),
    (lambda x: K.take(x, [-1], axis=1), "take without an axis, or at indices that are negative"),
    (lambda x: K.take(x, [1]), "take without an axis"),
    (lambda x: K.repeat(x, 2), "repeat without an axis"),
    (lambda x: K.roll(x, 2), "roll without an axis"),
    (lambda x: K.argmax(x), "argmax without an axis"),
    (lambda x: K.image.resize(x, (3, 3), antialias=True), "resize with options beyond"),
    (lambda x: K.pad(x, 1, mode="wrap"), "pad with mode 'wrap'"),
    (lambda x: K.concatenate([x, K.cast(x, "float16")]), "tensors of several dtypes"),
    (lambda x: K.tile(x, (2, 1, 1, 1, 1)), "tile to more axes"),
]


@pytest.mark.parametrize("make, message", REFUSED, ids=lambda v: v if isinstance(v, str) else None)
def test_refused_options(make, message):
    x = keras_3.Input(MAP)
    with pytest.raises(ValueError, match=message):
        keras_dbq.from_keras3(keras_3.Model(x, make(x)))


def test_open_sizes():
    x = keras_3.Input((None, None, 4))
    check(keras_3.Model(x, K.reshape(x, (-1, 4))), np.ones((2, 5, 6, 4), np.float32))
    with pytest.raises(ValueError, match="split at indices along an open size"):
        keras_dbq.from_keras3(keras_3.Model(x, K.split(x, [1, 3], axis=1)[0]))
