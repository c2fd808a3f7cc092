"""Batch norm anywhere: strict export works, every integer path is equal, and the answers are near the float model's."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras, tf

L = keras.layers
SHAPE = (8, 8, 4)


def norm(**options):
    """A batch norm whose four parameters matter."""
    return L.BatchNormalization(
        gamma_initializer=keras.initializers.RandomUniform(0.5, 1.5),
        beta_initializer=keras.initializers.RandomNormal(0, 0.3),
        moving_mean_initializer=keras.initializers.RandomNormal(0, 0.3),
        moving_variance_initializer=keras.initializers.RandomUniform(0.3, 2),
        **options,
    )


def pool(x):
    return L.GlobalAveragePooling2D()(x)


def classifier(x):
    """SeparableConv2D, GlobalAveragePooling2D, BatchNormalization, ReLU, Dropout, Dense."""
    return L.Dropout(0.2)(L.ReLU()(norm()(pool(L.SeparableConv2D(7, 3)(x)))))


def shared_pair(x):
    conv, bn = L.Conv2D(6, 3, padding="same"), norm()
    return L.Add()([bn(conv(x)), bn(conv(L.ReLU()(x)))])


def shared_norm(x):
    bn = norm()
    return L.Add()([bn(L.Conv2D(6, 3, padding="same")(x)), bn(L.Conv2D(6, 1)(x))])


def shared_kernel(x):
    conv = L.Conv2D(6, 3, padding="same")
    return L.Add()([norm()(conv(x)), conv(L.ReLU()(x))])


PLACES = {
    "behind a convolution, rows": lambda x: norm(axis=1)(x),
    "behind a convolution, columns, before a ReLU": lambda x: L.ReLU()(norm(axis=2)(x)),
    "several axes": lambda x: norm(axis=[1, 2])(x),
    "behind global pooling": lambda x: norm()(pool(x)),
    "the whole classifier": classifier,
    "behind max pooling, before a ReLU": lambda x: L.ReLU()(norm()(L.MaxPooling2D()(x))),
    "behind a flattened map": lambda x: norm()(L.Flatten()(x)),
    "behind a dense layer with ReLU": lambda x: norm()(L.Dense(9, activation="relu")(pool(x))),
    "behind a concatenation": lambda x: norm()(L.Concatenate()([x, L.ReLU()(x)])),
    "behind a ReLU": lambda x: norm()(L.ReLU()(x)),
    "behind batch norm": lambda x: norm()(norm()(x)),
    "of three axes": lambda x: L.Reshape((8, 8, 6))(norm()(L.Reshape((64, 6))(x))),
    "without scale": lambda x: norm(scale=False)(x),
    "without centre": lambda x: norm(center=False)(x),
    "shared with its convolution": shared_pair,
    "shared by two convolutions": shared_norm,
    "behind one of two calls": shared_kernel,
}


def network(place):
    inputs = keras.Input(SHAPE)
    x = place(L.Conv2D(6, 3, padding="same", name="stem")(inputs))
    x = pool(L.Conv2D(5, 1, name="last")(x)) if len(x.shape) == 4 else x
    return keras.Model(inputs, L.Dense(3, name="head")(x))


def first_layer():
    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, L.Dense(3)(pool(L.Conv2D(5, 3)(norm()(inputs)))))


def vectors():
    inputs = keras.Input((12,))
    return keras.Model(inputs, L.Dense(3)(norm()(L.Dense(8, activation="relu")(norm()(inputs)))))


def check(model, seed=0):
    """Float model -> packed file: every integer path equal, Keras equal layer by layer, the answers near."""
    x = np.random.default_rng(seed).normal(size=(48, *model.input_shape[1:])).astype(np.float32)
    q_model = keras_dbq.quantize_model(model, keras_dbq.FATScheme(), calibration_data=x)
    exported = keras_dbq.export_tflite(q_model, None, strict=True)
    report = keras_dbq.verify(q_model, exported.data, x[:16], top1_threshold=0.5)
    assert not report.notes
    y, wanted = keras_dbq.Interpreter(exported.data).predict(x), model(x).numpy()
    assert np.sqrt(np.mean((y - wanted) ** 2)) < 0.05 * wanted.std() + 0.01
    return q_model


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


@pytest.mark.parametrize("place", PLACES.values(), ids=list(PLACES))
def test_batch_norm_anywhere(place):
    check(network(place))


@pytest.mark.parametrize("build", [first_layer, vectors])
def test_batch_norm_as_the_first_layer(build):
    check(build())


def test_a_relu_behind_a_norm_of_two_axes_is_part_of_its_operator():
    q_model = check(network(classifier))
    table = {row["layer"]: row for row in keras_dbq.explain(q_model, print_fn=None)}
    assert "re_lu" not in table and "with its ReLU" in table["batch_normalization"]["note"]


@pytest.mark.slow
def test_training_goes_on_and_the_file_follows(tmp_path):
    """The answers of the exported file are those of the trained model, not of the one before."""
    keras.utils.set_random_seed(1)
    x = np.random.default_rng(0).normal(size=(64, *SHAPE)).astype(np.float32)
    y = (x.mean((1, 2, 3)) > 0).astype(np.int64)
    model = network(classifier)
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(2), calibration_data=x)
    q_model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = q_model.predict(x, verbose=0)
    q_model.fit(x, y, epochs=2, verbose=0)
    exported = keras_dbq.export_tflite(q_model, tmp_path / "m.tflite", strict=True)
    after = keras_dbq.Interpreter(exported.data).predict(x)
    assert np.abs(after - q_model.predict(x, verbose=0)).max() < 0.1 * np.abs(after).max()
    assert np.abs(after - before).max() > 0.05 * np.abs(after).max()


def test_an_unknown_size_is_refused_at_once():
    free = keras.Input((None, 6))
    model = keras.Model(free, L.Dense(2)(norm()(free)))
    with pytest.raises(ValueError, match="the input has no fixed size"):
        keras_dbq.quantize_model(model, keras_dbq.DBQScheme(), calibration_data=tf.zeros((4, 5, 6)))
