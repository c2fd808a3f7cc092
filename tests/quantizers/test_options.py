"""No option of a quantizer is accepted and ignored: each changes the output, the variables, or where it acts."""

import inspect

import numpy as np
import pytest

import keras_dbq
from keras_dbq import quantizers
from keras_dbq.compat import keras, tf
from keras_dbq.wrapping import lookup
from tests.wrapping import tiny

# {class: {option: (other options, its value)}}; the values differ from the defaults.
CASES = {
    quantizers.TernaryBranchQuantizer: {
        "branches": ({}, 1),
        "forward": ({}, "smooth"),
        "thresholds": ({}, "midpoint"),
        "per_channel": ({}, False),
        "depthwise": ({}, True),
        "temperature": ({"forward": "smooth"}, 3.0),
        "train_pre_scale": ({}, True),
        "train_post_scale": ({}, True),
    },
    quantizers.LinearWeightQuantizer: {
        "bits": ({}, 3),
        "per_channel": ({}, False),
        "depthwise": ({}, True),
        "threshold": ({}, "trained"),
    },
    quantizers.TernaryRuleQuantizer: {"method": ({}, "ttq"), "per_channel": ({}, False), "depthwise": ({}, True)},
    quantizers.ActivationQuantizer: {
        "bits": ({}, 5),
        "unsigned": ({}, True),
        "ema_decay": ({}, 0.5),
        "ranges": ({}, "trained"),
        "symmetric": ({}, True),
        "fixed": ({}, (-1.0, 2.0)),
        "frozen": ({}, ("ranges",)),
    },
    quantizers.CodeQuantizer: {"bits": ({}, 3), "sparsity": ({}, 0.8), "fit": ({}, "data")},
}
# What the layer around the quantizer does: see the tests below.
OF_THE_LAYER = {
    quantizers.TernaryBranchQuantizer: {"frozen"},
    quantizers.LinearWeightQuantizer: {"frozen", "round_bias"},
    quantizers.TernaryRuleQuantizer: {"frozen"},
    quantizers.ActivationQuantizer: set(),
    quantizers.CodeQuantizer: set(),
}
ALL = [(cls, option) for cls, options in CASES.items() for option in options]


def traits(quantizer):
    """Everything that can be seen of it: variables, which of them train, output in training and afterwards."""
    layer = keras.layers.Layer()
    tensor = np.random.default_rng(0).normal(size=(3, 3, 4, 6)).astype(np.float32)
    variables = quantizer.build(tensor.shape, "kernel", layer)
    if hasattr(quantizer, "initialize"):
        quantizer.initialize(tensor, variables)
    else:
        quantizer.calibrate(variables, -0.5, 3.0)
    outputs = [quantizer(tf.constant(tensor), training, variables).numpy() for training in (True, False)]
    shown = [(name, v.trainable, v.numpy().tolist()) for name, v in variables.items()]
    return str(shown) + str([y.tolist() for y in outputs])


@pytest.mark.parametrize("cls, option", ALL, ids=[f"{cls.__name__}-{option}" for cls, option in ALL])
def test_every_option_changes_something(cls, option):
    others, value = CASES[cls][option]
    assert inspect.signature(cls).parameters[option].default != value
    assert traits(cls(**others)) == traits(cls(**others))
    assert traits(cls(**others, **{option: value})) != traits(cls(**others))


@pytest.mark.parametrize("cls", CASES)
def test_every_option_is_tried_and_saved(cls):
    package = {c for c in quantizers.announced().values() if c.__module__.startswith("keras_dbq.")}
    assert set(CASES) == package
    options = set(inspect.signature(cls).parameters)
    assert options == set(CASES[cls]) | OF_THE_LAYER[cls]
    assert list(cls().get_config()) == list(inspect.signature(cls).parameters)
    for option, (others, value) in CASES[cls].items():
        config = cls(**others, **{option: value}).get_config()
        assert config[option] == (list(value) if isinstance(value, tuple) else value)
        assert cls.from_config(config).get_config() == config


def test_frozen_parts_do_not_train():
    scheme = keras_dbq.DBQScheme(weight_threshold="trained")
    trained = len(tiny.quantized(scheme).trainable_weights)
    for frozen, fewer in ((("weights",), 1), (("scales",), 2)):
        q_model = tiny.quantized(scheme)
        config = q_model.get_config()
        for layer in config["layers"]:
            if layer["config"]["name"] == "quant_middle":
                kernel = layer["config"]["quantize_config"]["config"]["weights"]["kernel"]
                kernel["config"]["frozen"] = list(frozen)
        assert len(keras.Model.from_config(config).trainable_weights) == trained - fewer


def test_a_rounded_bias_is_on_the_accumulators_grid():
    q_model = tiny.quantized(keras_dbq.FATScheme())
    layer = q_model.get_layer("quant_head")
    assert lookup.quantized_weights(layer)[0].quantizer.round_bias
    lookup.bias(layer).assign([0.1, -0.2, 0.3])
    q_model(tiny.pictures(2), training=False)
    used = layer.layer.bias.numpy()
    assert 0 < np.abs(used - lookup.bias(layer).numpy()).max() < 1e-4


def test_options_that_would_change_nothing_are_refused():
    activation = quantizers.ActivationQuantizer
    for option in ({"bits": 4}, {"unsigned": True}, {"ranges": "trained"}, {"symmetric": True}, {"ema_decay": 0.5}):
        with pytest.raises(ValueError, match="fixed: expected no other option beside a fixed range"):
            activation(fixed=(0, 1), **option)
    with pytest.raises(ValueError, match="ema_decay: expected its default, as ranges='trained' keep the extremes"):
        activation(ranges="trained", ema_decay=0.5)


def test_configs_of_0_1_with_such_options_load():
    old = {"bits": 8, "unsigned": False, "ema_decay": 0.9, "ranges": "trained", "symmetric": True, "fixed": [0.0, 1.0]}
    assert quantizers.ActivationQuantizer.from_config({**old, "frozen": ["ranges"]}).fixed == (0.0, 1.0)
    assert quantizers.ActivationQuantizer.from_config({**old, "fixed": None, "frozen": []}).ema_decay == 0.99


@pytest.mark.parametrize("threshold, fits", [("max", ("max",)), ("trained", ("max", "least_error"))])
def test_ways_to_fit(threshold, fits):
    quantizer = quantizers.LinearWeightQuantizer(bits=3, threshold=threshold)
    assert quantizer.fits == fits and quantizers.TernaryBranchQuantizer().fits == ("least_error",)
    kernel = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    variables = quantizer.build(kernel.shape, "kernel", keras.layers.Layer())
    errors = [quantizer.initialize(kernel, variables, fit) for fit in fits]
    assert quantizer.initialize(kernel, variables) == errors[0] > errors[-1] or len(fits) == 1
    with pytest.raises(ValueError, match="fit: expected one of 'max'.*, got 'midpoint'"):
        quantizer.initialize(kernel, variables, "midpoint")
