"""`trainable = False` on quantized models: what Keras' users mean by it."""

import numpy as np
import pytest
import tensorflow_model_optimization as tfmot

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.inspection.profile import profile
from tests import nets

L = keras.layers
SCHEMES = {
    "smooth ternary": lambda: keras_dbq.DBQScheme(forward="smooth", ternary_first=True),
    "trained ranges": lambda: keras_dbq.DBQScheme(activation_ranges="trained", thresholds="trained", ternary_last=True),
    "fat": keras_dbq.FATScheme,
}


def model_with_base():
    """A base with batch norms that end chains and not, and a head."""
    layers = [
        L.Rescaling(0.5, input_shape=nets.SHAPE, name="rescale"),
        L.Conv2D(6, 3, strides=2, name="conv"),
        L.BatchNormalization(name="conv_bn"),
        L.ReLU(name="relu"),
        L.SeparableConv2D(8, 3, name="sep"),
        L.BatchNormalization(name="sep_bn"),
    ]
    base = keras.Sequential(layers, name="base")
    inputs = keras.Input(nets.SHAPE)
    return base, nets.randomize(
        keras.Model(inputs, L.Dense(4, name="head")(L.GlobalAveragePooling2D(name="gap")(base(inputs))))
    )


BASE = {"rescale", "conv", "conv_bn", "relu", "sep_depthwise", "sep", "sep_bn"}


def plain(layer):
    return layer.layer.name if hasattr(layer, "layer") else layer.name


def values(q_model):
    return {plain(layer): [v.numpy() for v in layer.weights] for layer in q_model.layers}


def moved(q_model, steps=3):
    """Names of the plain layers that something changes in, in a few steps on data that the ranges do not fit."""
    x = 5 * nets.pictures(32)
    q_model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = values(q_model)
    q_model.fit(x, np.arange(32) % 4, epochs=steps, verbose=0)
    after = values(q_model)
    return {name for name in before if any((a != b).any() for a, b in zip(before[name], after[name], strict=True))}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_base_that_was_frozen_before_does_not_move(scheme):
    base, model = model_with_base()
    base.trainable = False
    q_model = keras_dbq.quantize_model(model, SCHEMES[scheme](), nets.pictures(16))
    trained = {plain(layer) for layer in q_model.layers if layer.trainable_weights}
    assert not trained & BASE and "head" in trained
    changed = moved(q_model)
    assert not changed & BASE and "head" in changed


@pytest.mark.parametrize(
    "scheme, name",
    [("smooth ternary", "quant_conv"), ("trained ranges", "quant_sep"), ("fat", "quant_relu"), ("fat", "quant_head")],
)
def test_one_layer_of_a_quantized_model(scheme, name):
    _, model = model_with_base()
    q_model = keras_dbq.quantize_model(model, SCHEMES[scheme](), nets.pictures(16))
    layer = q_model.get_layer(name)
    layer.trainable = False
    assert layer.trainable_weights == [] and not layer.layer.trainable
    changed = moved(q_model)
    assert plain(layer) not in changed and changed & {"conv", "head"}


def test_everything_and_back_again():
    _, model = model_with_base()
    q_model = keras_dbq.quantize_model(model, SCHEMES["trained ranges"](), nets.pictures(16))
    # Keras' own: True for the model is True for every layer, also for one that began otherwise.
    trained = [v.name for v in q_model.trainable_weights if not v.name.startswith(("rescale/", "quant_rescale/"))]
    names = [v.name for v in q_model.weights]
    q_model.trainable = False
    assert q_model.trainable_weights == [] and moved(q_model) == set()
    q_model.trainable = True
    again = [v.name for v in q_model.trainable_weights if not v.name.startswith(("rescale/", "quant_rescale/"))]
    assert again == trained and [v.name for v in q_model.weights] == names
    assert {"conv", "sep", "head"} <= moved(q_model)


def test_a_frozen_layer_computes_in_training_what_it_computes_in_the_file():
    """The smooth forward differs from the hard one; a frozen layer takes the hard one."""
    x = nets.pictures(8)
    _, model = model_with_base()
    q_model = keras_dbq.quantize_model(model, SCHEMES["smooth ternary"](), x)
    assert np.abs(q_model(x, training=True) - q_model(x, training=False)).max() > 1e-3
    q_model.trainable = False
    np.testing.assert_array_equal(q_model(x, training=True), q_model(x, training=False))


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_it_survives_saving(ending, tmp_path):
    base, model = model_with_base()
    base.trainable = False
    q_model = keras_dbq.quantize_model(model, SCHEMES["trained ranges"](), nets.pictures(16))
    q_model.save(tmp_path / f"m.{ending}")
    loaded = keras.models.load_model(tmp_path / f"m.{ending}")
    assert [v.shape for v in loaded.trainable_weights] == [v.shape for v in q_model.trainable_weights]
    for old, new in zip(q_model.layers, loaded.layers, strict=True):
        for a, b in zip(old.get_weights(), new.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    assert not moved(loaded) & BASE


def _frozen(q_model, name):
    q_model.get_layer(name).trainable = False


FROZEN_LATER = {
    "a layer": lambda q: _frozen(q, "quant_sep"),
    "everything": lambda q: setattr(q, "trainable", False),
    "a layer, then its scales": lambda q: (_frozen(q, "quant_sep"), keras_dbq.freeze(q, scales=True)),
    "weights, then a layer": lambda q: (keras_dbq.freeze(q, weights=True), _frozen(q, "quant_sep")),
    "batch norm, then everything": lambda q: (keras_dbq.freeze(q, batch_norm=True), setattr(q, "trainable", False)),
}


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("what", FROZEN_LATER)
def test_what_was_frozen_after_quantization_survives_saving(what, ending, tmp_path):
    _, model = model_with_base()
    q_model = keras_dbq.quantize_model(model, SCHEMES["trained ranges"](), nets.pictures(16))
    FROZEN_LATER[what](q_model)
    q_model.save(tmp_path / f"m.{ending}")
    loaded = keras.models.load_model(tmp_path / f"m.{ending}")
    assert [v.shape for v in loaded.trainable_weights] == [v.shape for v in q_model.trainable_weights]
    assert not loaded.get_layer("quant_sep").trainable
    for old, new in zip(q_model.layers, loaded.layers, strict=True):
        for a, b in zip(old.get_weights(), new.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    loaded.save(tmp_path / f"again.{ending}")
    again = keras.models.load_model(tmp_path / f"again.{ending}")
    for a, b in zip(q_model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_frozen_batch_norm_leaves_the_ranges_free():
    _, model = model_with_base()
    q_model = keras_dbq.freeze(
        keras_dbq.quantize_model(model, SCHEMES["trained ranges"](), nets.pictures(16)), batch_norm=True
    )
    norm = q_model.get_layer("quant_sep_bn")
    assert not norm.layer.trainable and {v.name.split("/")[-1][:6] for v in norm.trainable_weights} == {"output"}


def test_summary_says_what_trains():
    base, model = model_with_base()
    base.trainable = False
    q_model = keras_dbq.quantize_model(model, SCHEMES["trained ranges"](), nets.pictures(16))
    keras_dbq.freeze(q_model, scales=True, layers="head")
    rows = {p.name: p.trains for p in profile(q_model)}
    assert {rows[name] for name in BASE} == {"-"}
    assert rows["head"] == "weights, range" and rows["gap"] == "range"
    q_model.trainable = True
    rows = {p.name: p.trains for p in profile(q_model)}
    assert rows["sep"] == "weights, scales" and rows["relu"] == "range" and rows["sep_bn"] == "weights, range"
    assert "trains" in str(keras_dbq.summary(q_model, print_fn=None))


def test_configs_of_others_are_left_alone():
    """tfmot's own scheme: its wrappers behave as tfmot made them."""
    model = tfmot.quantization.keras.quantize_model(keras.Sequential([L.Dense(3, input_shape=(4,))]))
    wrapper = model.layers[-1]
    count = len(wrapper.trainable_weights)
    wrapper.trainable = False
    assert not wrapper.trainable and len(wrapper.trainable_weights) == count == 2
