"""Linear spaces: which tensors are one, who makes and who reads them, and why some have to stay."""

import numpy as np
import pytest

from keras_dbq.compat import keras, tf
from keras_dbq.network.graph import Graph
from keras_dbq.network.linear_spaces import linear_spaces

L = keras.layers


def spaces(model):
    """[(makers, readers, blocked)] by names."""
    found = linear_spaces(Graph(model))
    return [tuple([n.layer.name for n in part] for part in space[:2]) + (space.blocked,) for space in found]


def conv(x, channels, name, kernel=1, **options):
    return L.Conv2D(channels, kernel, padding="same", name=name, **options)(x)


def block(x, name, width=8, residual=True):
    y = L.ReLU(6.0)(conv(x, 16, f"{name}_expand"))
    y = L.DepthwiseConv2D(3, padding="same", activation="relu", name=f"{name}_depthwise")(y)
    y = conv(y, width, f"{name}_project")
    return L.Add(name=f"{name}_add")([x, y]) if residual else y


def model(between=lambda x: x, end=lambda x: L.GlobalAveragePooling2D()(L.ReLU()(x))):
    inputs = keras.Input((16, 16, 3))
    x = block(L.ReLU()(conv(inputs, 8, "stem", 3)), "first", residual=False)
    x = block(between(x), "second")
    x = conv(block(x, "third"), 12, "head")
    return keras.Model(inputs, L.Dense(5, name="logits")(end(x)))


PROJECTS = ["first_project", "second_project", "third_project"]
READERS = ["second_expand", "third_expand", "head"]


def test_residual_additions_join_what_they_add():
    found = spaces(model())
    assert (PROJECTS, READERS, "") in found
    assert (["logits"], [], "an output of the model is among it") in found
    assert [space for space in found if space[0] == ["stem"]][0][2].endswith("reads it")
    assert all(blocked for makers, _, blocked in found if makers != PROJECTS)


@pytest.mark.parametrize(
    "between",
    [
        L.ZeroPadding2D(),
        L.Dropout(0.1),
        L.AveragePooling2D(),
        L.Cropping2D(1),
        L.UpSampling2D(),
        L.Activation("linear"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_that_treat_all_channels_alike_pass(between):
    assert (PROJECTS, READERS, "") in spaces(model(between))


@pytest.mark.parametrize(
    "between, reason",
    [
        (L.MaxPooling2D(name="stop"), "stop reads it"),
        (L.ReLU(name="stop"), "stop reads it"),
        (L.UpSampling2D(interpolation="bilinear", name="stop"), "stop reads it"),
        (L.BatchNormalization(name="stop"), "stop reads it"),
        (L.DepthwiseConv2D(3, padding="same", name="stop"), "stop reads it"),
        (L.Conv2D(8, 3, padding="same", name="stop"), "the kernel of stop has several places"),
        (L.Conv2D(8, 1, groups=2, name="stop"), "stop reads it"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_others_end_a_space(between, reason):
    blocked = {makers[0]: reason for makers, _, reason in spaces(model(between))}
    assert blocked["first_project"] == reason


def test_a_sum_with_channels_of_another_kind_stays():
    inputs = keras.Input((16, 16, 8))
    x = block(inputs, "first")
    assert (["first_project"], ["first_expand", "head"], "an input of the model is among it") in spaces(
        keras.Model(inputs, L.ReLU()(conv(x, 4, "head")))
    )
    x = L.ReLU(name="bent")(conv(inputs, 8, "stem"))
    found = spaces(keras.Model(inputs, L.ReLU()(conv(block(x, "first"), 4, "head"))))
    assert (["first_project"], ["first_expand", "head"], "bent makes its channels") in found


def test_one_channel_that_is_added_to_all_stays():
    inputs = keras.Input((16, 16, 3))
    x = L.Add(name="sum")([conv(inputs, 8, "wide"), conv(inputs, 1, "single")])
    found = spaces(keras.Model(inputs, L.ReLU()(conv(x, 4, "head"))))
    reasons = {makers[0]: blocked for makers, _, blocked in found}
    assert reasons["wide"] == reasons["single"] == "sum reads it"


def test_constants_and_further_outputs_that_are_added_stay():
    inputs = keras.Input((16, 16, 8))
    x = L.Add(name="sum")([conv(inputs, 8, "wide"), np.ones((1, 16, 16, 8), np.float32)])
    found = spaces(keras.Model(inputs, L.ReLU()(conv(x, 4, "head"))))
    assert {makers[0]: blocked for makers, _, blocked in found}["wide"] == "sum reads it"
    halves = tf.split(L.ReLU()(conv(inputs, 16, "stem")), 2, -1)
    x = L.Add()([conv(inputs, 8, "wide"), halves[1]])
    found = spaces(keras.Model(inputs, L.ReLU()(conv(x, 4, "head"))))
    assert {makers[0]: blocked for makers, _, blocked in found}["wide"].endswith("makes its channels")


def test_layers_that_are_called_several_times_stay():
    inputs = keras.Input((16, 16, 3))
    expand, project = L.Conv2D(16, 1, name="expand", activation="relu"), L.Conv2D(3, 1, name="project")
    found = spaces(keras.Model(inputs, L.ReLU()(expand(project(expand(project(expand(inputs))))))))
    assert found and {space[2] for space in found} == {"project is called several times"}


def test_two_outputs_and_a_dense_layer():
    inputs = keras.Input((12,))
    x = L.Dense(6, name="narrow")(inputs)
    outputs = [L.Dense(3, name="a")(x), L.Dense(3, name="b", activation="softmax")(x)]
    (narrow,) = (space for space in spaces(keras.Model(inputs, outputs)) if space[0] == ["narrow"])
    assert sorted(narrow[1]) == ["a", "b"] and not narrow[2]
