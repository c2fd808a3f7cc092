"""Even ranges: equal outputs, every channel at the end of its range, copies whose roundings are shifted, and less error
of an 8-bit network.
"""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.network import kernels
from keras_dbq.prepare import ranges
from tests import nets

L = keras.layers
X = nets.pictures(48)


def network(relu="relu6", padding="same", bias=0.3, dead=(), use_bias=True, zeros=False, reader=None):
    """Convolution, depthwise and pointwise layer whose channels differ in size by up to 15."""
    keras.utils.set_random_seed(1)
    channels, activation = 8, None if relu == "linear" else relu
    inputs = keras.Input(nets.SHAPE)
    x = L.Conv2D(channels, 3, activation=activation, use_bias=use_bias, name="make")(inputs)
    x = L.ZeroPadding2D()(x) if zeros else x
    x = L.DepthwiseConv2D(3, padding=padding, activation=activation, use_bias=use_bias, name="dw")(x)
    x = (reader or L.Conv2D(6, 1, use_bias=use_bias, name="read"))(x)
    x = L.GlobalAveragePooling2D()(x) if len(x.shape) == 4 else x
    model = keras.Model(inputs, L.Dense(3, name="head")(x))
    rng = np.random.default_rng(0)
    for name in ("make", "dw", "read", "head"):
        layer = model.get_layer(name)
        kernel, *offsets = layer.get_weights()
        # Drawn here: what Keras draws depends on what ran before in the process.
        kernel = rng.uniform(-1, 1, kernel.shape) * np.sqrt(3 / np.prod(kernel.shape[:-1]))
        if name in ("read", "head"):
            layer.set_weights([kernel, *offsets])
            continue
        sizes = np.geomspace(0.4, 6, channels)
        sizes[list(dead)] = 0
        if name == "make":
            kernel = kernel * sizes
            offsets = [sizes * bias + np.where(sizes > 0, 0.0, -1.0) for _ in offsets]
        else:
            offsets = [rng.uniform(0, 0.2, channels) * sizes + np.where(sizes > 0, 0.0, -1.0) for _ in offsets]
        layer.set_weights([kernel, *offsets])
    return model


def outputs(model, x=X):
    return model(x).numpy()


def assert_equal_outputs(model, prepared, x=X, tolerance=1e-4):
    wanted = outputs(model, x)
    np.testing.assert_allclose(outputs(prepared, x), wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max())


def highest(model, name, x=X):
    layer = model.get_layer(name)
    return np.abs(keras.Model(model.inputs, layer.output)(x).numpy()).max((0, 1, 2))


@pytest.mark.parametrize("relu", ["relu6", "relu", "linear"])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_the_outputs_stay_and_every_channel_reaches_the_end(relu, padding):
    model = network(relu, padding)
    result = keras_dbq.even_ranges(model, X)
    assert_equal_outputs(model, result.model)
    before, after = highest(model, "make"), highest(result.model, "make")
    assert before.max() > 4 * before.min()
    np.testing.assert_allclose(after, after.max(), rtol=1e-4)
    assert after.max() == pytest.approx(6 if relu == "relu6" else before.max(), rel=1e-4) or padding == "valid"
    row = list(result.table)[0]
    assert (row["layer"], row["next"], row["rule"], row["copies"]) == ("make", "dw", relu, 0)
    assert 0 < row["narrowest"] < 0.5 and "times" in row["note"]


@pytest.mark.parametrize(
    "zeros, padding, offsets", [(False, "valid", True), (True, "valid", False), (False, "same", False)]
)
def test_offsets_where_no_padding_is_read(zeros, padding, offsets):
    model = network("relu", padding, bias=6.0, zeros=zeros)
    result = keras_dbq.even_ranges(model, X)
    assert ("with an offset" in list(result.table)[0]["note"]) == offsets
    assert_equal_outputs(model, result.model)


def test_no_bias_no_offset_and_no_copies():
    model = network("relu", "valid", use_bias=False, dead=(1, 2))
    result = keras_dbq.even_ranges(model, X)
    assert "offset" not in str(result.table) and sum(result.table.column("copies")) == 0
    assert_equal_outputs(model, result.model)


def test_what_relu6_clips_it_still_clips():
    model = network("relu6", "valid", bias=3.0)
    kernel, bias = model.get_layer("make").get_weights()
    model.get_layer("make").set_weights([kernel * 0.3, bias])
    clipped = highest(model, "make") == 6
    assert clipped.any() and not clipped.all()
    result = keras_dbq.even_ranges(model, X)
    assert "with an offset" in list(result.table)[0]["note"]
    assert_equal_outputs(model, result.model)
    np.testing.assert_allclose(highest(result.model, "make"), 6, rtol=1e-4)


def test_headroom_leaves_room_for_other_pictures():
    model, others = network("relu6"), 1.3 * nets.pictures(48, seed=5)
    tight, wide = (keras_dbq.even_ranges(model, X, headroom=h).model for h in (1.0, 2.0))
    assert_equal_outputs(model, wide, others)
    wanted = outputs(model, others)
    assert np.abs(outputs(tight, others) - wanted).max() > 1e-3 * np.abs(wanted).max()


def test_dead_channels_become_shifted_copies():
    model = network("relu6", dead=(0, 3))
    result = keras_dbq.even_ranges(model, X)
    copied = result.table.column("copies")
    assert copied == [0, 2, 0, 0]
    # The shifts are parts of a step, but the mean of a channel and its copies is that of the channel.
    assert_equal_outputs(model, result.model, tolerance=0.01)
    kernel, bias = result.model.get_layer("make").get_weights()
    read = kernels.rows(result.model.get_layer("read").get_weights()[0])
    step = 6 / 255
    for copy in (0, 3):
        (source,) = [c for c in range(8) if c not in (0, 3) and np.array_equal(kernel[..., c], kernel[..., copy])]
        assert np.array_equal(read[source], read[copy])
        distance = abs(float(bias[source] - bias[copy])) / step
        assert min(abs(distance - share) for share in (1 / 2, 1 / 3, 2 / 3)) < 1e-3


def test_the_mean_of_shifted_roundings_is_finer():
    y = np.random.default_rng(0).uniform(-3, 3, 10000)
    for n in (1, 2, 3, 4):
        shifts = [(2 * j + 1 - n) / (2 * n) for j in range(n)]
        mean = np.mean([np.floor(y + shift + 0.5) for shift in shifts], 0)
        np.testing.assert_allclose(mean, np.floor(n * y + 0.5) / n, atol=1e-9)


def test_copies_go_where_they_lessen_the_error_most():
    groups = ranges.copies(np.array([8.0, 0.0, 9.0, 0.0, 1.0, 0.0]), np.array([1, 3, 5]))
    # Two channels of 9 leave 2.25, of 8 leave 2; the third copy of 9 gains 1.25, of 8 1.11, the second one of 1 0.75.
    assert groups == [[2, 1, 5], [0, 3]]
    assert ranges.copies(np.zeros(3), np.array([0])) == []


def note(table):
    return list(table)[1]["note"]


def test_layers_that_mix_channels_decide_by_their_noise():
    model = network("relu6")
    few, many = (keras_dbq.even_ranges(model, X, bits=bits, activation_bits=4).table for bits in (2, 8))
    assert "left alone" in note(few) and "times" in note(many)
    coarse, fine = (keras_dbq.even_ranges(model, X, bits=4, activation_bits=bits).table for bits in (4, 8))
    assert "times" in note(coarse) and "left alone" in note(fine)


def heard(model, rounded):
    """What the last layer gives for every place; with activations rounded to 8 bits or not."""
    x = X
    for name in ("make", "dw"):
        x = model.get_layer(name)(x).numpy()
        if rounded:
            step = x.max() / 255
            x = np.rint(x / step) * step
    return model.get_layer("head")(model.get_layer("read")(x)).numpy()


@pytest.mark.parametrize("dead, share", [((), 0.5), ((5, 6, 7), 0.4)])
def test_rounded_activations_cost_less(dead, share):
    model = network("relu6", dead=dead)
    kernel, bias = model.get_layer("dw").get_weights()  # small channels count as much as large ones
    model.get_layer("dw").set_weights([kernel / np.geomspace(0.4, 6, 8).reshape(-1, 1), bias])
    even, wanted = keras_dbq.even_ranges(model, X).model, heard(model, False)
    before, after = (np.square(heard(m, True) - wanted).mean() for m in (model, even))
    assert after < share * before


def test_a_whole_network_is_proved(tmp_path):
    model = nets.mobilenet_v1()
    result = keras_dbq.even_ranges(model, X)
    assert_equal_outputs(model, result.model, tolerance=0.02)
    assert [row["layer"] for row in result.table] == ["stem", "dw0", "pw0", "dw1", "pw1", "head"]
    q_model = keras_dbq.quantize_model(result.model, keras_dbq.FATScheme(), calibration_data=X)
    keras_dbq.export_tflite(q_model, str(tmp_path / "m.tflite"), encoding="int8", strict=True)
    assert "PASS" in str(keras_dbq.verify(q_model, str(tmp_path / "m.tflite"), X[:4])).upper()


def test_what_may_not_be_crossed_and_a_multiplier():
    inputs = keras.Input(nets.SHAPE)
    x = L.Conv2D(4, 3, padding="same", activation="relu", name="a")(inputs)
    y = L.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="b")(x)
    x = L.Add()([L.Conv2D(8, 1, name="c")(L.ReLU()(y)), L.Conv2D(8, 3, padding="same", name="d")(inputs)])
    model = nets.randomize(keras.Model(inputs, L.Conv2D(2, 1, activation="sigmoid", name="e")(x)))
    result = keras_dbq.even_ranges(model, X)
    assert_equal_outputs(model, result.model)
    notes = {row["layer"]: (row["next"], row["note"]) for row in result.table}
    assert notes["a"][0] == "b" and notes["b"][0] == "c"
    assert all(notes[name][1].startswith("left alone: ") for name in "cde")


def test_bad_arguments():
    model = network()
    for argument, message in (
        ({"bits": 9}, "bits: expected an integer from 2 to 8"),
        ({"activation_bits": 3}, "activation_bits: expected an integer from 4 to 8"),
        ({"headroom": 0.5}, "headroom: expected a number from 1"),
    ):
        with pytest.raises(ValueError, match=message):
            keras_dbq.even_ranges(model, X, **argument)
    with pytest.raises(ValueError, match="got NaN"):
        keras_dbq.even_ranges(model, X * np.nan)
    with pytest.raises(TypeError, match="even_ranges"):
        keras_dbq.even_ranges(3, X)
    alone = keras.Sequential([keras.Input(nets.SHAPE), L.Conv2D(3, 3)])
    assert "an output of the model" in str(keras_dbq.even_ranges(alone, X).table)
