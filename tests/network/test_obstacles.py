"""One list of what stands in the way, as a table and as one line."""

import pytest

import keras_dbq
from keras_dbq.compat import keras, tf
from keras_dbq.network.obstacles import Obstacle, Obstacles
from tests import nets

L = keras.layers


class Forgetful(L.Layer):
    """A layer that cannot be made again."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def get_config(self):
        return super().get_config()


def model_of(call, shape=(8, 8, 3)):
    inputs = keras.Input(shape, name="image")
    return keras.Model(inputs, L.Conv2D(2, 1, name="last")(call(inputs)))


def test_all_obstacles_at_once_in_the_order_of_execution():
    def call(x):
        x = L.LayerNormalization(name="norm")(L.Conv2D(4, 3, name="first")(x))
        x = L.UpSampling2D(interpolation="bicubic", name="up")(x)
        return L.Lambda(lambda v: tf.cumsum(v), name="sum")(x)

    found = keras_dbq.check(model_of(call))
    assert [(one.layer, one.type) for one in found] == [
        ("norm", "LayerNormalization"), ("up", "UpSampling2D"), ("sum", "Lambda"),
    ]  # fmt: skip
    assert all(one.reason and one.advice for one in found) and [one.fatal for one in found] == [False, True, False]
    lines = str(found).splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["norm", "up", "sum"]


def test_quantize_model_raises_exactly_this_list():
    model = model_of(lambda x: L.LayerNormalization()(L.Permute((2, 1, 3))(L.Masking()(x))))
    found = keras_dbq.check(model, keras_dbq.FATScheme())
    with pytest.raises(ValueError) as error:
        keras_dbq.quantize_model(model, keras_dbq.FATScheme())
    assert str(error.value) == found.sentence() and len(found) == 2 and "\n" not in found.sentence()


def test_nothing_in_the_way():
    found = keras_dbq.check(nets.resnet())
    assert not found and len(found) == 0 and str(found) == "nothing stands in the way"


def test_open_sizes_are_refused_whatever_may_stay_float():
    model = model_of(lambda x: x, (None, None, 3))
    found = keras_dbq.check(model)
    assert [one.layer for one in found] == ["image"] and found.fatal == found
    with pytest.raises(ValueError, match=r"'image'.* got \(None, None, 3\); give the model's Input a shape without"):
        keras_dbq.quantize_model(model, keras_dbq.DBQScheme(on_unsupported="skip"))


def test_a_layer_that_cannot_be_copied_is_named():
    nested = keras.Sequential([Forgetful(2.0, input_shape=(8, 8, 3), name="forgetful")])
    model = model_of(lambda x: nested(L.ReLU()(x)))
    assert [one.layer for one in keras_dbq.check(model)] == ["forgetful"]
    with pytest.raises(ValueError, match="'forgetful' of type Forgetful.*cannot be copied.*get_config") as error:
        keras_dbq.quantize_model(model, keras_dbq.DBQScheme())
    assert "\n" not in str(error.value)


def test_check_names_wrong_arguments():
    with pytest.raises(TypeError, match="check: expected a tf_keras model, got int"):
        keras_dbq.check(3)
    with pytest.raises(ValueError, match=r"model\.h5: expected a Keras model file, got nothing"):
        keras_dbq.check("model.h5")
    with pytest.raises(TypeError, match="check: expected a QuantizeScheme"):
        keras_dbq.check(nets.resnet(), 2)
    with pytest.raises(ValueError, match="overrides: 'nowhere' matches no layer"):
        keras_dbq.check(nets.resnet(), keras_dbq.DBQScheme(overrides={"nowhere": {"branches": 1}}))


def test_one_obstacle_for_a_layer_and_a_way_out_where_there_is_one():
    one = Obstacle("a", "Dense", "reason", "advice")
    assert Obstacles([one, one._replace(reason="other")]) == (one,)
    assert Obstacles([one]).sentence() == (
        "layer 'a' of type Dense has no integer form: reason; advice (or leave it out of the annotation, or use "
        'on_unsupported="skip" to keep it in float)'
    )
    assert "skip" not in Obstacles([one._replace(fatal=True)]).sentence()
