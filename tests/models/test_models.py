"""The networks: shapes, parameter counts, saving, published accuracies, and every documented error."""

import numpy as np
import pytest

from keras_dbq import models
from keras_dbq.compat import keras
from keras_dbq.models.mobilenet import scaled_channels
from keras_dbq.models.pretrained import RESNET20_MEAN, RESNET20_STD


def normalised(pictures):
    return (pictures / np.float32(255) - np.float32(RESNET20_MEAN)) / np.float32(RESNET20_STD)


def top1(model, x, labels, batch_size=100):
    return float((model.predict(x, batch_size=batch_size, verbose=0).argmax(1) == labels).mean())


def test_mobilenet_v1_has_the_published_number_of_parameters():
    """4.2 million at alpha 1 and 0.5 million at alpha 0.25, as published; exactly 4,253,864 with 1000 classes."""
    assert models.mobilenet_v1((224, 224, 3), 1000, alpha=1.0).count_params() == 4_253_864
    assert models.mobilenet_v1((224, 224, 3), 1000, alpha=0.25).count_params() == 475_544


def test_mobilenet_v1_options():
    assert models.mobilenet_v1((32, 32, 1), 10, stem_stride=1).get_layer("conv").output_shape == (None, 32, 32, 8)
    assert models.mobilenet_v1(activation="relu").get_layer("conv_relu").get_config()["max_value"] is None
    assert models.mobilenet_v1().get_layer("conv_relu").get_config()["max_value"] == 6.0
    assert models.mobilenet_v1(batch_norm_momentum=0.9).get_layer("conv_bn").momentum == 0.9
    assert scaled_channels(32, 0.1) == 8


def test_mobilenet_v2_has_the_published_number_of_weights():
    """keras.applications' MobileNetV2 has 3,538,984 parameters with batch norm; folding turns 4 into 1 per channel."""
    published = keras.applications.MobileNetV2(weights=None)
    channels = sum(layer.gamma.shape[0] for layer in published.layers if "BatchNorm" in type(layer).__name__)
    assert models.mobilenet_v2().count_params() == published.count_params() - 3 * channels


@pytest.mark.parametrize(("depth", "parameters"), [(20, 269_722), (8, 75_290)])
def test_resnet_has_the_published_number_of_trained_weights(depth, parameters):
    """0.27 million at depth 20 (kernels, gamma, beta, dense layer)."""
    model = models.resnet_cifar(depth)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == parameters


def test_resnet_shortcut_is_subsampling_with_channels_padded_by_zeros():
    model = models.resnet_cifar(8)
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    before, after = keras.Model(
        model.input, [model.get_layer(n).output for n in ("layer1.0.relu2", "layer2.0.shortcut_unflatten")]
    ).predict(x, verbose=0)
    np.testing.assert_array_equal(after, np.pad(before[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (8, 8))))


@pytest.mark.parametrize("extension", ["keras", "h5"])
def test_resnet_saves_and_loads(tmp_path, extension):
    model = models.resnet_cifar(8)
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    model.save(tmp_path / f"model.{extension}")
    loaded = keras.models.load_model(tmp_path / f"model.{extension}", compile=False)
    np.testing.assert_array_equal(model.predict(x, verbose=0), loaded.predict(x, verbose=0))


def test_errors():
    with pytest.raises(ValueError, match="activation: expected 'relu' or 'relu6', got 'swish'"):
        models.mobilenet_v1(activation="swish")
    with pytest.raises(ValueError, match="alpha: expected a positive width multiplier, got 0"):
        models.mobilenet_v1(alpha=0)
    for depth in (2, 21):
        with pytest.raises(ValueError, match=rf"depth: expected 6n \+ 2 with n >= 1, got {depth}"):
            models.resnet_cifar(depth)
    with pytest.raises(ValueError, match="expected height and width divisible by 4"):
        models.resnet_cifar(20, (30, 32, 3))


def test_files_of_other_networks_are_refused(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, other=np.zeros(1))
    with pytest.raises(ValueError, match="expected an array named 'conv1.weight', got none"):
        models.resnet20_from_npz(path)
    with pytest.raises(ValueError, match="expected an array named 'Conv2d_0/weights', got none"):
        models.mobilenet_v1_from_npz(path)
    np.savez(path, **{"conv1.weight": np.zeros((16, 3, 5, 5))})
    with pytest.raises(ValueError, match=r"layer conv1: expected weights of shapes \[\(3, 3, 3, 16\)\]"):
        models.resnet20_from_npz(path)
    with pytest.raises(ValueError, match=r"source: expected a TFLite file .*weights.npz'"):
        models.mobilenet_v2_from_tflite(path)


def test_another_tflite_network_is_refused(weights_dir):
    with pytest.raises(ValueError, match="expected 53 layers with weights, got"):
        models.mobilenet_v2_from_tflite(weights_dir / "pretrainedResnet.tflite")
    with pytest.raises(ValueError, match="expected float32 or int8 weights, got INT32; wrong file?"):
        models.mobilenet_v2_from_tflite(weights_dir / "vww_96_int8.tflite")


def test_resnet20_on_500_pictures(weights_dir, cifar10_test_part):
    """455 right of the first 500; two pictures of slack for float rounding on other processors."""
    images, labels = cifar10_test_part
    model = models.resnet20_from_npz(weights_dir / "resnet20_cifar10.npz")
    assert abs(top1(model, normalised(images[:500]), labels[:500]) * 500 - 455) <= 2


@pytest.mark.slow
def test_mobilenets_on_100_pictures(weights_dir, imagenet_photos):
    images, labels = imagenet_photos
    x = images / np.float32(127.5) - 1
    v1 = models.mobilenet_v1_from_npz(weights_dir / "mobilenet_v1_0.25_224_imagenet.npz")
    v2 = models.mobilenet_v2_from_tflite(weights_dir / "mobilenetv2_1.0_224_keras_int8weights.tflite")
    assert abs(top1(v1, x, labels + 1) * 100 - 60) <= 1
    assert abs(top1(v2, x, labels) * 100 - 73) <= 1


@pytest.mark.slow
def test_resnet20_reaches_its_published_accuracy(weights_dir, cifar10_test_part):
    images, labels = cifar10_test_part
    model = models.resnet20_from_npz(weights_dir / "resnet20_cifar10.npz")
    assert top1(model, normalised(images), labels, 500) == pytest.approx(0.9173, abs=2e-4)


@pytest.mark.slow
def test_mobilenets_on_1000_pictures(data_dir, weights_dir, load_data):
    images, fields = load_data.jpeg_set(data_dir / "imagenet_val_first1000_224.npz")
    x, labels = images / np.float32(127.5) - 1, fields["label"]
    v1 = models.mobilenet_v1_from_npz(weights_dir / "mobilenet_v1_0.25_224_imagenet.npz")
    v2 = models.mobilenet_v2_from_tflite(weights_dir / "mobilenetv2_1.0_224_keras_int8weights.tflite")
    assert top1(v1, x, labels + 1) == pytest.approx(0.509, abs=2e-3)
    assert top1(v2, x, labels) == pytest.approx(0.709, abs=2e-3)


@pytest.mark.parametrize(("file", "shape"), [("vww_96.h5", (96, 96, 3)), ("pretrainedResnet.h5", (32, 32, 3))])
def test_published_h5_files_load(weights_dir, file, shape):
    model = keras.models.load_model(weights_dir / file, compile=False)
    assert model.input_shape[1:] == shape


def test_vww_recall_and_specificity(weights_dir, vww_photos):
    """Recall 77.0 % and specificity 92.6 % on the photos with a usable label."""
    images, fields = vww_photos
    labels = fields["label_mlperf"]
    usable = labels >= 0
    model = keras.models.load_model(weights_dir / "vww_96.h5", compile=False)
    said = model.predict(images[usable] / np.float32(255), batch_size=100, verbose=0).argmax(1)
    right = said == labels[usable]
    assert right[labels[usable] == 1].mean() == pytest.approx(0.770, abs=2e-3)
    assert right[labels[usable] == 0].mean() == pytest.approx(0.926, abs=4e-3)
