"""Which operator of the file is which layer (equal weights and bias, then the name), and which grid is whose."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from keras_dbq.export import inference
from keras_dbq.export.matching import GridFinder
from keras_dbq.tflite import flatbuffer as fb
from keras_dbq.tflite.operators import Grid
from tests import nets
from tests.export.oracle import kernels, quantized

L = keras.layers


def test_two_layers_with_equal_weights_keep_their_biases():
    inputs = keras.Input(nets.SHAPE)
    x = L.Conv2D(3, 1, name="first", activation="relu")(inputs)
    x = L.Conv2D(3, 1, name="second", activation="relu")(x)
    x = L.Conv2D(3, 1, name="third")(x)
    model = keras.Model(inputs, x)
    kernel = np.random.default_rng(0).normal(size=(1, 1, 3, 3))
    for layer in model.layers[1:]:
        layer.set_weights([kernel, np.zeros(3)])
    q_model = quantized(model, branches=1, ternary_first=True, ternary_last=True)
    for i, name in enumerate(("first", "second", "third")):  # now, because quantize_model corrects biases
        q_model.get_layer(f"quant_{name}").layer.bias.assign(np.full(3, 0.1 * (i % 2)))
    data = keras_dbq.export_tflite(q_model, None, "int8", strict=True).data
    assert [fb.text(fb.load_model(data).subgraphs[0].tensors[o.outputs[0]].name) for o in
            fb.load_model(data).subgraphs[0].operators] == ["first", "second", "third"]  # fmt: skip
    assert [bool(kernels(data)[name][2].any()) for name in ("first", "second", "third")] == [False, True, False]
    assert keras_dbq.verify(q_model, data, nets.pictures(4), top1_threshold=0).passed


@pytest.mark.parametrize("of_weights, of_bias", [(1.5, 1), (1, 1.5)])
def test_converter_folding_into_weights_is_noticed(monkeypatch, of_weights, of_bias):
    q_model = quantized(nets.sequential)
    product = inference._product

    def other(layer, x, kernel, bias):
        return product(layer, x, kernel if of_weights == 1 else of_weights * kernel, of_bias * bias)

    monkeypatch.setattr(inference, "_product", other)
    with pytest.raises(ValueError, match="layers .*head.*: expected their weights in the converted file, got others"):
        keras_dbq.export_tflite(q_model, None)


def finder(**grids):
    return GridFinder(inference.InferenceGraph(None, grids=grids))


GRIDS = {"n0003": Grid(0.5, 3), "n0007": Grid(0.5, 3), "n0009": Grid(0.25, 3)}


@pytest.mark.parametrize(
    "name, grid",
    [
        ("n0003/grid", GRIDS["n0003"]),
        # Fused: the fake-quant's token decides, wherever it stands and whatever grids the other calls have.
        ("n0009/Reshape;n0008/transpose;n0003/grid1", GRIDS["n0003"]),
        ("n0009/Relu;n0007/grid;n0003/grid", GRIDS["n0003"]),
        ("n0009/grid;n0003/grid", GRIDS["n0003"]),
        ("n0009/FakeQuantWithMinMaxArgs", Grid(0.5000001, 3)),  # a user's own: the converter's grid stays
    ],
)
def test_the_name_decides_the_grid(name, grid):
    assert finder(**GRIDS)(name, Grid(0.5000001, 3)) == grid


@pytest.mark.parametrize("written", [Grid(0.5001, 3), Grid(0.5, 4), Grid(0.25, 3), Grid(float("nan"), 3)])
def test_a_grid_that_is_not_the_written_one_is_our_error(written):
    with pytest.raises(AssertionError, match="n0003/grid: expected a grid out of .*, got Grid"):
        finder(**GRIDS)("n0003/grid", written)
