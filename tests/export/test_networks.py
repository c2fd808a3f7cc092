"""Small networks of kinds that have come out wrong, or were refused after the training."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras, tf
from keras_dbq.wrapping import wrappers

L = keras.layers
SHAPE = (8, 8, 4)


def pictures(count=32):
    return np.random.default_rng(0).normal(size=(count, *SHAPE)).astype(np.float32)


def network(body):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SHAPE, name="image")
    x = body(L.Conv2D(6, 3, padding="same", name="stem")(inputs))
    x = L.Conv2D(5, 1, name="last")(x)
    return keras.Model(inputs, L.Dense(3, name="head")(L.GlobalAveragePooling2D()(x)))


def twice(x):
    conv = L.Conv2D(6, 3, padding="same", name="shared")
    return conv(conv(x))


def siamese(x):
    conv = L.Conv2D(6, 3, padding="same", name="shared")
    return L.Add()([conv(x), conv(L.ReLU()(x))])


KINDS = {
    "dense on four axes": lambda x: L.Dense(6, name="dense")(x),
    "dense on three axes": lambda x: L.Reshape((8, 8, 6))(L.Dense(6, name="dense")(L.Reshape((64, 6))(x))),
    "average over the border": lambda x: L.AveragePooling2D(3, 2, "same")(x),
    "average of one step": lambda x: L.AveragePooling2D(8, 1, "same")(x),
    "three summands": lambda x: L.Add(name="sum")([x, L.ReLU()(x), L.Conv2D(6, 1)(x)]),
    "four factors": lambda x: L.Multiply(name="product")([x, L.ReLU()(x), L.Conv2D(6, 1)(x), x]),
    "a layer on its own answer": twice,
    "a layer on two inputs": siamese,
    "tanh in a Lambda": lambda x: L.Lambda(lambda v: tf.tanh(v))(x),
}


@pytest.mark.parametrize("scheme", [keras_dbq.FATScheme(), keras_dbq.DBQScheme(2)], ids=["fat", "dbq"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_kinds(kind, scheme):
    x = pictures()
    model = network(kind)
    q_model = keras_dbq.quantize_model(model, scheme, calibration_data=x)
    first, second = (keras_dbq.export_tflite(q_model, None, strict=True).data for _ in range(2))
    assert first == second
    keras_dbq.verify(q_model, first, x[:8], top1_threshold=0.5)
    y, wanted = keras_dbq.Interpreter(first).predict(x), model(x).numpy()
    assert y.shape == wanted.shape
    assert np.sqrt(np.mean((y - wanted) ** 2)) < 0.35 * wanted.std()


def test_a_tanh_in_a_lambda_keeps_its_negative_half():
    """It had softmax's range: nothing below zero."""
    inputs = keras.Input((4, 4, 2))
    model = keras.Model(inputs, L.Lambda(lambda v: tf.tanh(v))(inputs))
    x = np.linspace(-3, 3, 64, dtype=np.float32).reshape(2, 4, 4, 2)
    q_model = keras_dbq.quantize_model(model, keras_dbq.FATScheme(), calibration_data=x)
    y = keras_dbq.Interpreter(keras_dbq.export_tflite(q_model, None, strict=True).data).predict(x)
    np.testing.assert_allclose(y, np.tanh(x), atol=0.02)


def dead(x):
    """A ReLU that never opens."""
    bias = keras.initializers.Constant(-100.0)
    gate = L.Conv2D(6, 1, activation="relu", bias_initializer=bias, name="gate")(x)
    return L.Multiply()([x, gate])


@pytest.mark.parametrize("trained", [False, True])
def test_a_dead_relu(trained):
    """Its range was [0, 1e-5]: steps so small that XNNPACK refuses the file."""
    x = pictures()
    q_model = keras_dbq.quantize_model(network(dead), keras_dbq.DBQScheme(2, ema_decay=0.1), calibration_data=x)
    if trained:
        q_model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        q_model.fit(x, np.arange(len(x)) % 3, epochs=5, verbose=0)
    gate = next(t for layer in q_model.layers if (t := wrappers.quantized_output(layer)) and t.layer_name == "gate")
    assert float(gate.variables["high"]) == 1
    data = keras_dbq.export_tflite(q_model, None, strict=True).data
    keras_dbq.verify(q_model, data, x[:8], top1_threshold=0)


@pytest.mark.parametrize("high", [1e-5, 1e-3])
def test_an_output_that_is_nearly_zero(high):
    """A range as training can leave it: its multipliers are over 256, which XNNPACK refuses; the codes saturate."""
    x = pictures()
    q_model = keras_dbq.quantize_model(network(lambda x: L.ReLU(name="r")(x)), keras_dbq.DBQScheme(2), x)
    ranges = next(t.variables for layer in q_model.layers if (t := wrappers.quantized_output(layer)) and t[0] == "r")
    ranges["high"].assign(high)
    data = keras_dbq.export_tflite(q_model, None, strict=True).data
    report = keras_dbq.verify(q_model, data, x[:8], top1_threshold=0)
    assert report.output_keras < 0.01


OBSTACLES = {
    "one": (lambda x: L.LayerNormalization(name="n")(x), "layer 'n' of type LayerNormalization has no integer form"),
    "all of them": (
        lambda x: L.UpSampling2D(interpolation="bicubic", name="up")(L.GroupNormalization(2, name="g")(x)),
        "layer 'g' of type GroupNormalization has no integer form: .*layer 'up' of type UpSampling2D has no integer",
    ),
    "inside of a kernel layer": (
        lambda x: L.Conv2D(6, 1, activation=lambda v: tf.cumsum(v, axis=1), name="c")(x),
        "layer 'c' of type .* has no integer form: ",
    ),
}


@pytest.mark.parametrize("body, message", OBSTACLES.values(), ids=list(OBSTACLES))
def test_obstacles_are_told_at_once(body, message):
    with pytest.raises(ValueError, match=message) as raised:
        keras_dbq.quantize_model(network(body), keras_dbq.DBQScheme(), calibration_data=pictures())
    assert "\n" not in str(raised.value)


def test_a_dot_product_beyond_int32_is_refused_at_once():
    inputs = keras.Input((70_000,))
    model = keras.Model(inputs, L.Dense(1, name="wide")(inputs))
    with pytest.raises(ValueError, match="'wide'.*a dot product of 70000 weights does not fit int32; split the layer"):
        keras_dbq.quantize_model(model, keras_dbq.DBQScheme(), calibration_data=np.zeros((2, 70_000), np.float32))


@pytest.mark.parametrize("make", [L.Conv2D, L.Conv2DTranspose])
def test_a_layer_called_twice_on_one_tensor(make):
    """TensorFlow computes it once."""
    x = pictures()
    layer = make(6, 3, padding="same", name="c")
    q_model = keras_dbq.quantize_model(
        network(lambda x: L.Add()([layer(x), layer(layer(x))])), keras_dbq.DBQScheme(2), x
    )
    assert keras_dbq.verify(q_model, keras_dbq.export_tflite(q_model, None, strict=True).data, x[:8]).passed
