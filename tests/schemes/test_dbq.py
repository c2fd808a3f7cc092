"""DBQScheme: which layer is ternary, every option changes what is learnt, errors."""

import functools

import numpy as np
import pytest

from keras_dbq.compat import keras
from keras_dbq.wrapping import wrappers
from tests import nets


def test_default_choice_of_layers():
    q_model = nets.quantize(nets.mobilenet_v1())
    kinds = {
        wrappers.inner(layer).name: type(w.quantizer).__name__
        for layer in q_model.layers
        for w in wrappers.quantized_weights(layer)
    }
    linear, ternary = "LinearWeightQuantizer", "TernaryBranchQuantizer"
    assert kinds == {"stem": linear, "dw0": linear, "pw0": ternary, "dw1": linear, "pw1": ternary, "head": linear}


@pytest.mark.parametrize(
    "option, value",
    [
        ("branches", 1),
        ("forward", "smooth"),
        ("forward", "straight_through"),
        ("thresholds", "midpoint"),
        ("per_channel", False),
        ("temperature", 30.0),
        ("weight_bits", 4),
        ("ternary_first", True),
        ("ternary_last", True),
        ("ternary_depthwise", True),
        ("ema_decay", 0.5),
        ("activation_ranges", "trained"),
        ("symmetric", True),
        ("weight_threshold", "trained"),
        ("train_pre_scale", True),
        ("train_post_scale", True),
        ("overrides", {"pw0": {"branches": 1}}),
    ],
)
def test_every_option_changes_training(option, value):
    """One epoch with and without the option: the learnt weights or the outputs differ."""
    base, other = _default_training(), _train(**{option: value})
    assert _arrays_differ(base, other)


def test_training_repeats():
    """Else the test above would prove nothing."""
    assert not _arrays_differ(_default_training(), _train())


def _train(**options):
    keras.utils.set_random_seed(0)
    q_model = nets.quantize(nets.mobilenet_v1(), **options)
    # Tracing a graph would take most of the time.
    q_model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", run_eagerly=True)
    q_model.fit(nets.pictures(), np.arange(64) % 4, batch_size=32, epochs=1, shuffle=False, verbose=0)
    return [q_model.predict(nets.pictures(16, seed=9), verbose=0), *q_model.get_weights()]


@functools.cache
def _default_training():
    return _train()


def _arrays_differ(a, b):
    return len(a) != len(b) or not all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"branches": 4}, ValueError, "branches: expected an integer from 1 to 3, got 4"),
        ({"forward": "soft"}, ValueError, "forward: expected one of"),
        ({"thresholds": "free"}, ValueError, "thresholds: expected one of"),
        ({"per_channel": 1}, TypeError, "per_channel: expected True or False"),
        ({"temperature": 0}, ValueError, "temperature: expected a number"),
        ({"activation_bits": 3}, ValueError, "activation bits: expected an integer from 4 to 8, got 3"),
        ({"weight_bits": 1}, ValueError, "weight_bits: expected an integer from 2 to 8"),
        ({"ema_decay": 1.5}, ValueError, "ema_decay: expected a number"),
        ({"on_unsupported": "ignore"}, ValueError, "on_unsupported: expected one of"),
        ({"overrides": {"pw0": {"branch": 1}}}, ValueError, "expected options among"),
        ({"overrides": {3: {}}}, TypeError, "expected a layer name, glob pattern or Keras layer type"),
        ({"overrides": {"pw0": 3}}, TypeError, "expected a dict of options"),
        ({"overrides": {"pw9": {"skip": True}}}, ValueError, "'pw9' matches no layer of model 'v1'"),
    ],
)
def test_bad_scheme(arguments, error, message):
    with pytest.raises(error, match=message):
        nets.quantize(nets.mobilenet_v1(), **arguments)
