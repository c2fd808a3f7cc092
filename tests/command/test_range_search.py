"""The range that a network was trained on is found from its first layers, or nothing is said."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.command.range_search import find_range
from keras_dbq.command.ranges import RANGES, scaled
from keras_dbq.compat import keras
from keras_dbq.network import graph
from tests.command import networks

L = keras.layers


@pytest.mark.parametrize("name", RANGES)
def test_batch_norm_remembers_the_range(name):
    assert find_range(networks.trained(name), networks.photos()) == name


@pytest.mark.parametrize("name", ["0..255", "0..1", "-1..1"])
def test_grey_pictures(name):
    assert find_range(networks.trained(name, channels=1), networks.photos(channels=1)) == name


@pytest.mark.parametrize("layer", [L.Rescaling(1 / 127.5, -1), L.Normalization(mean=[3.0], variance=[2.0])])
def test_a_scaling_layer_takes_pictures_as_they_are(layer):
    model = keras.Sequential([keras.Input((16, 16, 3)), layer, L.Conv2D(4, 3), L.Flatten()])
    assert find_range(model, networks.photos()) == "0..255"


def test_nothing_is_guessed():
    fresh = keras.Sequential([keras.Input((16, 16, 3)), L.Conv2D(4, 3), L.BatchNormalization(), L.Flatten()])
    assert find_range(fresh, networks.photos()) is None
    without = keras.Sequential([keras.Input((16, 16, 3)), L.Conv2D(4, 3), L.Flatten()])
    assert find_range(without, networks.photos()) is None
    other = networks.trained("0..1")  # its batch norm saw something that no range gives
    norm = other.get_layer("norm")
    norm.set_weights([w * s for w, s in zip(norm.get_weights(), (1, 1, 9, 90), strict=True)])
    assert find_range(other, networks.photos()) is None


def test_dead_channels_say_nothing():
    model = networks.trained("-1..1")
    norm = model.get_layer("norm")
    gamma, beta, mean, variance = norm.get_weights()
    mean[:5], variance[:5] = 0, 1e-12
    norm.set_weights([gamma, beta, mean, variance])
    assert find_range(model, networks.photos()) == "-1..1"
    assert np.count_nonzero(variance < 1e-9) == 5


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("scheme", [keras_dbq.DBQScheme, keras_dbq.FATScheme])
def test_a_quantized_network_has_it_in_its_input(scheme, name):
    """Without a batch norm, and with other pictures than those of the calibration."""
    model = keras.Sequential([keras.Input((16, 16, 3)), L.Conv2D(4, 3), L.GlobalAveragePooling2D(), L.Dense(2)])
    photos = networks.photos()
    q_model = keras_dbq.quantize_model(model, scheme(), scaled(photos[: len(photos) // 2], name))
    assert find_range(graph.flat_copy(q_model), photos[len(photos) // 2 :]) == name


def test_a_range_that_no_pictures_fill():
    model = keras.Sequential([keras.Input((16, 16, 3)), L.Conv2D(4, 3), L.Flatten()])
    x = 20 * scaled(networks.photos(), "-1..1")  # between 0..1 and 0..255
    assert find_range(keras_dbq.quantize_model(model, keras_dbq.DBQScheme(), x), networks.photos()) is None
