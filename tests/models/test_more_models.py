"""VGG-small, AlexNet, ShuffleNetV2, MNasNet: numbers of weights, the shuffle, the way to a file, bad arguments."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq import models
from keras_dbq.compat import keras
from keras_dbq.models.mnasnet import scaled_to_eight
from tests import nets


def trained(model):
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights)


@pytest.mark.parametrize(
    "build, count",
    [
        (lambda: models.shufflenet_v2(alpha=0.5), 1_366_792),  # published with torchvision, and so the next three
        (lambda: models.shufflenet_v2(), 2_278_604),
        (lambda: models.mnasnet(), 4_383_312),
        (lambda: models.mnasnet(alpha=1.3), 6_282_256),
        # 3 * 9 * 128 + 128 * 9 * 128 and so on, and 8192 * 10 + 10 of the dense layer.
        (lambda: models.vgg_small(), 9 * (3 * 128 + 128**2 + 128 * 256 + 256**2 + 256 * 512 + 512**2) + 81_930),
        (
            lambda: models.alexnet(),
            121 * 3 * 96 + 25 * 96 * 256 + 9 * (256 * 384 + 384**2 + 384 * 256) + 9216 * 4096 + 4096**2 + 4_097_000,
        ),
    ],
)
def test_numbers_of_trained_weights(build, count):
    assert trained(build()) == count


def test_options():
    assert trained(models.vgg_small(affine=True, alpha=0.25)) - trained(models.vgg_small(alpha=0.25)) == 2 * 448
    assert models.vgg_small(alpha=0.25).get_layer("conv6").output_shape == (None, 8, 8, 128)
    assert models.alexnet((67, 67, 3), 7, affine=True, batch_norm_momentum=0.8).get_layer("bn7").momentum == 0.8
    assert models.shufflenet_v2((64, 32, 1), 4).output_shape == (None, 4)
    assert [scaled_to_eight(c, 1.3) for c in (32, 16, 24, 40, 80, 96, 192, 320)] == [40, 24, 32, 56, 104, 128, 248, 416]


def test_the_shuffle_takes_from_both_halves_in_turn():
    model = models.shufflenet_v2((32, 32, 3), 4, alpha=0.5)
    parts = keras.Model(model.input, [model.get_layer(f"stage2.1.{n}").output for n in ("concat", "shuffle_join")])
    before, after = parts.predict(np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32), verbose=0)
    half = before.shape[-1] // 2
    np.testing.assert_array_equal(after[..., 0::2], before[..., :half])
    np.testing.assert_array_equal(after[..., 1::2], before[..., half:])


@pytest.mark.slow
@pytest.mark.parametrize(
    "build, size, scheme",
    [
        (lambda: models.shufflenet_v2((32, 32, 3), 5, 0.5), 32, lambda: keras_dbq.DBQScheme(2)),
        (lambda: models.mnasnet((32, 32, 3), 5), 32, lambda: keras_dbq.DBQScheme(1)),
        (lambda: models.mnasnet((32, 32, 3), 5, 1.3), 32, lambda: keras_dbq.DBQScheme(2)),
        (lambda: models.vgg_small(alpha=0.25), 32, lambda: keras_dbq.TSQScheme(init="least_error")),
        (lambda: models.vgg_small(alpha=0.25, affine=True), 32, lambda: keras_dbq.TSQScheme(codes="data")),
        (lambda: models.alexnet((67, 67, 3), 5), 67, lambda: keras_dbq.TSQScheme(init="least_error")),
    ],
    ids=["shufflenet_v2", "mnasnet", "mnasnet 1.3", "vgg_small", "vgg_small with scale and shift", "alexnet"],
)
def test_the_whole_way_to_a_verified_file(build, size, scheme):
    model = build()
    if any(isinstance(layer, keras.layers.BatchNormalization) and layer.center for layer in model.layers):
        model = nets.randomize(model)
    x = np.random.default_rng(0).normal(size=(16, size, size, 3)).astype(np.float32)
    q_model = keras_dbq.quantize_model(model, scheme(), calibration_data=x)
    report = keras_dbq.export_tflite(q_model, None, strict=True)
    assert keras_dbq.verify(q_model, report.data, x[:8], top1_threshold=0).passed


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: models.vgg_small(alpha=0), "alpha: expected a positive width multiplier, got 0"),
        (lambda: models.vgg_small((4, 32, 3)), "input_shape: expected at least 8 x 8 pixels"),
        (lambda: models.alexnet((64, 64, 3)), "input_shape: expected at least 67 x 67 pixels"),
        (lambda: models.shufflenet_v2(alpha=0.7), "alpha: expected one of 0.5, 1.0, 1.5, 2.0, got 0.7"),
        (lambda: models.shufflenet_v2((48, 64, 3)), "input_shape: expected height and width divisible by 32"),
        (lambda: models.mnasnet(alpha=-1), "alpha: expected a positive width multiplier, got -1"),
    ],
)
def test_bad_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()
