"""Generated networks of layers, operators, branches and nested models convert to the same function."""

import numpy as np
import pytest

from tests import nets
from tests.keras3.networks import K, L, check, keras_3, lively

STEPS = [
    lambda x, r: L.Conv2D(8, 3, padding="same", activation=r.choice(["relu", "silu", "hard_silu", "linear"]))(x),
    lambda x, r: L.SeparableConv2D(8, 3, padding="same")(x),
    lambda x, r: L.DepthwiseConv2D(3, padding="same", use_bias=False)(x),
    lambda x, r: L.Conv2DTranspose(8, 2, strides=2)(L.MaxPooling2D()(x)),
    lambda x, r: L.BatchNormalization()(x),
    lambda x, r: L.LayerNormalization()(x),
    lambda x, r: L.Dropout(0.3)(L.PReLU(shared_axes=(1, 2))(x)),
    lambda x, r: L.Dense(8, activation="gelu")(x),
    lambda x, r: K.relu6(x * 0.5 + 1.0),
    lambda x, r: x * K.sigmoid(K.mean(x, axis=(1, 2), keepdims=True)),
    lambda x, r: L.Add()([x, L.Conv2D(8, 1)(x)]) - x / 2.0,
    lambda x, r: L.Conv2D(8, 1)(K.concatenate([x, K.max(x, axis=-1, keepdims=True)], axis=-1)),
    lambda x, r: K.reshape(K.transpose(K.reshape(x, (-1, 8, 8, 2, 4)), (0, 1, 2, 4, 3)), (-1, 8, 8, 8)),
    lambda x, r: K.concatenate(K.split(x, 2, axis=-1)[::-1], axis=-1),
    lambda x, r: K.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))[:, 2:, :-2],
    lambda x, r: grown(r, 2, nested=True)(x),
    lambda x, r: L.TimeDistributed(L.Conv1D(8, 3, padding="same"))(x),
]


def grown(rng, steps, nested=False):
    """A model of random steps on 8 x 8 maps of 8 channels; `nested` ones hold no further models."""
    inputs = x = keras_3.Input((8, 8, 8))
    for _ in range(steps):
        choice = STEPS[rng.integers(len(STEPS))]
        while nested and choice is STEPS[-2]:
            choice = STEPS[rng.integers(len(STEPS))]
        x = choice(x, rng)
    return keras_3.Model(inputs, x)


@pytest.mark.parametrize("seed", range(8))
def test_generated_networks(seed):
    rng = np.random.default_rng(seed)
    inputs = keras_3.Input((8, 8, 3))
    body = grown(rng, int(rng.integers(4, 9)))
    features = L.Rescaling(0.5)(body(L.Conv2D(8, 1)(inputs)))
    model = lively(keras_3.Model(inputs, L.Dense(4)(L.GlobalAveragePooling2D()(features))), seed)
    check(model, nets.pictures(4, shape=(8, 8, 3)))
