"""Whole models: nesting, sharing, structures, policies, lists of obstacles; and that a wrong conversion is found."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.keras3 import activations, convert, table, weights
from tests import nets
from tests.keras3.networks import K, L, answers, check, keras_3, lively

SHAPE = (16, 16, 3)


def backbone(name="backbone"):
    inputs = keras_3.Input(SHAPE)
    x = L.ReLU(6.0)(L.BatchNormalization()(L.Conv2D(6, 3, padding="same", use_bias=False, name="conv")(inputs)))
    return keras_3.Model(inputs, L.DepthwiseConv2D(3, name="dw")(x), name=name)


def classifier():
    """Rescaling, a nested model, operators, a head in a Sequential model."""
    inputs = keras_3.Input(SHAPE, name="image")
    x = backbone()(L.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(inputs), training=False)
    x = K.mean(K.relu(x) + x * 0.5, axis=(1, 2))
    head = keras_3.Sequential([L.Dense(5, activation="relu"), L.Dropout(0.2), L.Dense(3)], name="head")
    return lively(keras_3.Model(inputs, head(x), name="classifier"))


def names(model):
    return [layer.name for layer in model.layers]


def test_nested_models_stay_nested_with_names_and_weights():
    model = classifier()
    new = check(model)
    assert names(new) == [operation.name for operation in model.operations]
    assert names(new.get_layer("backbone")) == names(model.get_layer("backbone"))
    assert isinstance(new.get_layer("head"), keras.Sequential)
    assert new.count_params() == model.count_params()
    np.testing.assert_array_equal(
        new.get_layer("backbone").get_layer("dw").get_weights()[0],
        model.get_layer("backbone").get_layer("dw").get_weights()[0],
    )


def test_a_layer_called_twice_is_one_layer():
    first, second = keras_3.Input(SHAPE, name="first"), keras_3.Input(SHAPE, name="second")
    twin, conv = backbone("twin"), L.Conv2D(6, 3, padding="same", name="conv")
    a, b = (L.GlobalAveragePooling2D()(conv(conv(twin(x)))) for x in (first, second))
    new = check(lively(keras_3.Model([first, second], K.abs(a - b))))
    assert names(new).count("twin") == names(new).count("conv") == 1


def test_a_layer_called_twice_with_an_activation_that_is_split_off():
    x = keras_3.Input((6,))
    dense = L.Dense(6, activation="hard_sigmoid", name="d")
    assert {"d", "d_hard_sigmoid", "d_hard_sigmoid_1"} <= set(names(check(lively(keras_3.Model(x, dense(dense(x)))))))


def test_an_input_that_nothing_reads_stays():
    a, b = keras_3.Input((4,), name="a"), keras_3.Input((3,), name="b")
    assert check(lively(keras_3.Model([a, b], L.Dense(2)(b)))).input_names == ["a", "b"]


def test_saved_models_with_operators_load_again(tmp_path):
    x = keras_3.Input((6, 8, 4))
    y = (1 - x[:, ::2, ..., :2]) * np.array([0.5, 2.0], np.float32) + K.split(x[:, 1::2], 2, axis=-1)[1] ** 2
    y = K.clip(K.concatenate([K.squeeze(K.sum(y, axis=1, keepdims=True), 1), y[:, 0]], axis=1), -1.0, 1.5)
    y = L.Dense(3, activation="hard_silu")(K.where(y > 0.25, y, K.exp(y)) / 2.0)
    new = check(lively(keras_3.Model(x, y)))
    for name in ("m.keras", "m.h5"):
        new.save(tmp_path / name)
        loaded = keras.models.load_model(tmp_path / name)
        values = nets.pictures(3, shape=(6, 8, 4))
        np.testing.assert_array_equal(loaded(values), new(values))


def test_several_inputs_and_outputs_keep_order_and_keys():
    a, b = keras_3.Input((4,), name="a"), keras_3.Input((4,), name="b")
    x, y = L.Dense(3, name="x")(a), L.Dense(2, name="y")(L.Concatenate()([b, a]))
    rng = np.random.default_rng(0)
    one, two = (rng.normal(size=(5, 4)).astype("float32") for _ in range(2))
    listed = check(lively(keras_3.Model([b, a], [y, x])), [one, two])
    assert listed.input_names == ["b", "a"] and listed.output_names == ["y", "x"]
    model = lively(keras_3.Model({"b": b, "a": a}, {"z": x, "c": y}))
    by_key = check(model, {"b": one, "a": two})
    assert set(by_key.output) == {"z", "c"} and by_key({"b": one, "a": two})["z"].shape == (5, 3)
    nested = keras_3.Model([b, a], model({"b": b, "a": a})["z"])
    check(nested, [one, two])


def test_sequential_models_stay_sequential():
    layers = [L.Conv2D(4, 3, activation="relu", name="c"), L.BatchNormalization(), L.Flatten(), L.Dense(2)]
    new = check(lively(keras_3.Sequential([keras_3.Input((8, 8, 3), name="picture"), *layers], name="s")))
    assert type(new) is keras.Sequential and names(new) == [layer.name for layer in layers]
    assert new.inputs[0].name == "picture"
    split = check(lively(keras_3.Sequential([keras_3.Input((4,)), L.Dense(2, activation="hard_silu", name="d")])))
    assert names(split)[-1] == "d_hard_silu"  # tf_keras has no such activation: a functional model


def test_a_part_of_a_model_and_open_sizes():
    whole = classifier()
    check(keras_3.Model(whole.inputs, whole.get_layer("rescaling").output), np.ones((2, *SHAPE), np.float32))
    x = keras_3.Input((None, None, 3))
    y = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, strides=2)(x))
    check(lively(keras_3.Model(x, y)), np.ones((2, 40, 21, 3), np.float32))


@pytest.mark.parametrize("name", ["mixed_bfloat16", "mixed_float16"])
def test_policies_stay_and_are_compared_in_float32(name):
    keras_3.config.set_dtype_policy(name)
    try:
        x = keras_3.Input(SHAPE)
        y = L.Conv2D(8, 3, use_bias=False)(x)
        y = L.GlobalAveragePooling2D()(L.ReLU()(L.BatchNormalization()(y)) * 2.0)
        model = lively(keras_3.Model(x, L.Dense(3, dtype="float32", name="head")(y)))
    finally:
        keras_3.config.set_dtype_policy("float32")
    new = keras_dbq.from_keras3(model)
    policies = {layer.name: layer._dtype_policy.name for layer in new.layers}
    assert policies["head"] == "float32" and policies[new.layers[1].name] == name
    assert [layer.dtype_policy.name for layer in model.layers if layer.weights] == [name, name, "float32"]
    a, b = answers(model, nets.pictures(4)), answers(new, nets.pictures(4))
    np.testing.assert_allclose(a[0], b[0], rtol=0.02, atol=0.02 * np.abs(a[0]).max())
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(), nets.pictures(8))
    assert q_model.output_shape == (None, 3)


@pytest.mark.parametrize("family", ["mobilenet_v2", "resnet50", "densenet"])
def test_what_keras_does_to_pictures_before_a_network(family):
    """preprocess_input on tensors, and in a Lambda."""
    prepare, x = getattr(keras_3.applications, family).preprocess_input, keras_3.Input(SHAPE)
    check(keras_3.Model(x, prepare(x)))
    check(keras_3.Model(x, L.Lambda(prepare)(x)))


def test_frozen_layers_stay_frozen():
    model = classifier()
    model.get_layer("backbone").trainable = False
    new = check(model)
    assert len(new.trainable_weights) == len(model.trainable_weights) == 4
    model.trainable = False
    assert not check(model).trainable_weights


def test_all_obstacles_in_one_line():
    class Mine(L.Layer):
        def call(self, x):
            return x

    inner_input = keras_3.Input(SHAPE)
    inner = keras_3.Model(inner_input, Mine(name="inside")(inner_input), name="inner")
    inputs = keras_3.Input(SHAPE)
    x = L.Conv2D(4, 3, activation="sparsemax", name="conv")(
        K.cumsum(L.RMSNormalization(name="rms")(inner(inputs)), axis=1)
    )
    model = keras_3.Model(inputs, Mine(name="outside")(x), name="stranger")
    with pytest.raises(ValueError) as caught:
        keras_dbq.from_keras3(model)
    text = str(caught.value)
    assert text.startswith("from_keras3: model 'stranger' has parts without a counterpart in tf_keras: layer 'inside'")
    assert "\n" not in text
    for part in (
        "layer 'inside' of type Mine",
        "layer 'rms' of",
        "of type Cumsum",
        "activation sparsemax",
        "'outside'",
    ):
        assert text.count(part) == 1, part


class Own(L.Layer):
    """A layer of the user's, with code for Keras 3."""

    def call(self, x):
        return x


def test_check_gives_the_list_and_quantize_model_raises_it(tmp_path):
    inputs = keras_3.Input(SHAPE)
    model = keras_3.Model(inputs, Own(name="own")(L.RMSNormalization(name="rms")(inputs)))
    found = keras_dbq.check(model)
    assert [(one.layer, one.type) for one in found] == [("rms", "RMSNormalization"), ("own", "Own")]
    assert all(one.reason.startswith("from_keras3 cannot convert it: ") and one.advice and one.fatal for one in found)
    with pytest.raises(ValueError) as caught:
        keras_dbq.quantize_model(model, keras_dbq.DBQScheme(on_unsupported="skip"))
    assert str(caught.value) == found.sentence() and "\n" not in found.sentence()
    path = tmp_path / "model.keras"
    keras_3.Model(inputs, L.RMSNormalization(name="rms")(inputs)).save(path)
    assert [one.layer for one in keras_dbq.check(path)] == ["rms"]


def test_check_of_models_that_cannot_be_read_or_compute_something_else(monkeypatch):
    (unbuilt,) = keras_dbq.check(keras_3.Sequential([L.Dense(3)], name="unbuilt"))
    assert unbuilt.layer == "unbuilt" and unbuilt.advice == "begin it with keras.Input(shape)"
    monkeypatch.setattr(keras_dbq.keras3.compare, "_error", lambda a, b: 1.0)
    assert keras_dbq.check(classifier())[0].reason.endswith("relative error of 1 on random input (tolerance 1e-05)")


def test_subclassed_and_unbuilt_models_are_one_line():
    class Subclassed(keras_3.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="its call is Python code that cannot be read; rebuild it with keras.Model"):
        keras_dbq.from_keras3(Subclassed())
    with pytest.raises(ValueError, match="it has not been built; begin it with keras.Input"):
        keras_dbq.from_keras3(keras_3.Sequential([L.Dense(3)]))
    inputs = keras_3.Input((4,))
    with pytest.raises(ValueError, match="layer 'inner' of type Subclassed: its call is Python code"):
        keras_dbq.from_keras3(keras_3.Model(inputs, Subclassed(name="inner")(inputs)))
    with pytest.raises(TypeError, match="expected a Keras 3 model or the path of its file, got Sequential"):
        keras_dbq.from_keras3(nets.sequential())
    with pytest.raises(ValueError, match="tolerance: expected a number from 0 to 1"):
        keras_dbq.from_keras3(classifier(), tolerance=2)


def test_wrong_conversions_are_found(monkeypatch):
    """A function of the same name with other values, weights in another order, an option that is dropped."""
    x = keras_3.Input(SHAPE)
    model = lively(keras_3.Model(x, L.Conv2D(4, 3, activation="hard_sigmoid", name="c")(x)))
    with monkeypatch.context() as patch:
        patch.setattr(table, "ACTIVATIONS", table.ACTIVATIONS | {"hard_sigmoid"})
        with pytest.raises(
            ValueError, match="layer 'c' of type Conv2D: expected tf_keras to compute the same, got a rel"
        ):
            keras_dbq.from_keras3(model)
    with monkeypatch.context() as patch:
        patch.setattr(weights, "_order", lambda old, new: [1, 0, 2, 3])
        norm = lively(keras_3.Model(x, L.BatchNormalization(name="bn")(x)))
        with pytest.raises(ValueError, match="layer 'bn' of type BatchNormalization: expected tf_keras to compute"):
            keras_dbq.from_keras3(norm)
    with monkeypatch.context() as patch:
        patch.setitem(table.INERT, "antialias", (True,))
        with pytest.raises(ValueError, match="of type Resizing: expected tf_keras to compute the same"):
            keras_dbq.from_keras3(keras_3.Model(x, L.Resizing(5, 5, antialias=True)(x)))
    with monkeypatch.context() as patch:
        patch.setitem(activations.IN_OPERATORS, "hard_silu", activations.hard_sigmoid)
        with pytest.raises(ValueError, match="operation 'hard_silu.*' of type HardSilu: expected tf_keras to compute"):
            keras_dbq.from_keras3(keras_3.Model(x, K.hard_silu(x)))


def test_what_is_converted_quantizes_and_exports_strictly(tmp_path):
    q_model = keras_dbq.quantize_model(classifier(), keras_dbq.DBQScheme(), nets.pictures(32))
    path = str(tmp_path / "m.tflite")
    keras_dbq.export_tflite(q_model, path, strict=True)
    assert keras_dbq.verify(q_model, path, nets.pictures(4)).passed


@pytest.mark.slow
def test_a_keras_3_model_teaches():
    model = classifier()
    q_model = keras_dbq.quantize_model(model, keras_dbq.FATScheme(), nets.pictures(16))
    assert len(keras_dbq.distill(q_model, model, nets.pictures(32), epochs=1, batch_size=8, verbose=0)["loss"]) == 1


PROGRAM = """
{imports}
model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
                          keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
new = keras_dbq.from_keras3(model)
other = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(4,))])
print(type(new).__module__, keras.__version__, tf_keras.__version__, other.predict([[1.0, 2, 3, 4]], verbose=0).shape,
      new.predict(__import__("numpy").ones((1, 8, 8, 3)), verbose=0).shape)
"""


@pytest.mark.slow
@pytest.mark.parametrize("imports", ["import keras, keras_dbq, tf_keras", "import tf_keras, keras_dbq, keras"])
def test_either_order_of_import(imports):
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(imports=imports)], capture_output=True, text=True)
    assert done.stdout.startswith("tf_keras.src.engine.sequential 3."), done.stderr[-1500:]
    assert done.stdout.strip().endswith("(1, 2) (1, 2)")


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_another_backend_of_keras_3():
    """Weights and answers go through numpy."""
    program = """
import os
os.environ["KERAS_BACKEND"] = "jax"
import keras, keras_dbq
x = keras.Input((8, 8, 3))
y = keras.layers.Dense(2)(keras.layers.Flatten()(keras.ops.relu(keras.layers.Conv2D(4, 3)(x)) * 2.0))
print(keras_dbq.from_keras3(keras.Model(x, y)).output_shape)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "(None, 2)", done.stderr[-1500:]


def test_the_tolerance_is_what_the_docs_say():
    assert convert.TOLERANCE == 1e-5
