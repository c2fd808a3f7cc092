"""The thresholds example: any Keras file and any pictures in, int8 files and a table out. Pictures are drawn here."""

import json

import keras as keras_3
import numpy as np
import pytest

from examples.thresholds import network, pictures, pipeline
from keras_dbq.compat import keras, tf
from tests import nets

PIL = pytest.importorskip("PIL.Image", reason="Pillow is not installed; pip install pillow")


def draw(count, height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, channels), np.uint8)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    keras.utils.set_random_seed(0)
    file = tmp_path_factory.mktemp("model") / "model.keras"
    nets.mobilenet_v1().save(file)
    return str(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of pictures of several sizes and kinds."""
    root = tmp_path_factory.mktemp("photos")
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir()
        for i in range(12):
            picture = PIL.fromarray(draw(1, 20 + i, 30 - i, seed=100 * label + i)[0])
            (picture.convert("L") if i == 3 else picture).save(root / name / f"{i}.{'jpg' if i % 2 else 'png'}")
    return root


def test_pictures_from_a_folder(folder, tmp_path):
    x, y = pictures.load(str(folder), 16, 16, 3)
    assert x.shape == (24, 16, 16, 3) and x.dtype == np.uint8
    np.testing.assert_array_equal(y, [0] * 12 + [1] * 12)
    assert pictures.load(str(folder / "cat"), 8, 8, 1).y is None
    square = draw(1, 16, 16)[0]
    PIL.fromarray(square).save(tmp_path / "same.png")
    np.testing.assert_array_equal(pictures.load(str(tmp_path), 16, 16, 3).x[0], square)
    np.testing.assert_array_equal(
        pictures.load(str(tmp_path), 8, 8, 3).x[0],
        np.asarray(PIL.fromarray(square).resize((8, 8), PIL.Resampling.BILINEAR)),
    )


def test_pictures_are_cut_to_the_networks_shape(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    PIL.fromarray(wide).save(tmp_path / "wide.png")
    assert (pictures.load(str(tmp_path), 10, 10, 3).x == 255).all()


def test_pictures_from_arrays(tmp_path):
    x = draw(6, 16, 16)
    np.savez(tmp_path / "a.npz", x_train=x[:4], y_train=[0, 1, -1, 0], x_test=x[4:], y_test=[1, 0])
    assert pictures.load(str(tmp_path / "a.npz"), 16, 16, 3).y is None  # one has no label
    found = pictures.load(str(tmp_path / "a.npz"), 16, 16, 3, part="test")
    np.testing.assert_array_equal(found.x, x[4:])
    np.testing.assert_array_equal(found.y, [1, 0])
    np.savez(tmp_path / "grey.npz", x=x[..., 0])
    assert pictures.load(str(tmp_path / "grey.npz"), 8, 8, 3).x.shape == (6, 8, 8, 3)


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"images": np.zeros((2, 4, 4, 3), np.uint8)}, "expected an array x, x_train or x_test, got images"),
        ({"x": np.zeros((2, 4, 4, 3))}, "x: expected uint8 pictures"),
        ({"x": np.zeros((2, 4, 4, 3), np.uint8), "y": [1]}, "y: expected 2 labels, got 1"),
    ],
)
def test_bad_arrays(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        pictures.load(str(tmp_path / "bad.npz"), 4, 4, 3)


def test_no_pictures(tmp_path):
    with pytest.raises(ValueError, match=r"expected pictures \(.*\), got none"):
        pictures.load(str(tmp_path), 4, 4, 3)
    with pytest.raises(ValueError, match=r"expected a folder of pictures or an \.npz file, got neither"):
        pictures.load(str(tmp_path / "nothing"), 4, 4, 3)


@pytest.mark.slow
def test_the_whole_example(model_file, folder, tmp_path):
    results = pipeline.run(
        model_file, str(folder), tmp_path / "out", test=str(folder), value_range="-1,1", scheme="bits=4,mode=scalar",
        stages="rescale,blocks,thresholds,pointwise,answers", epochs=1,
        hparams="batch_size=8,calibration=16,method=mse,block_epochs=1",
    )  # fmt: skip
    names = [row["name"] for row in results["rows"]]
    assert names[:3] == ["float", "stock post-training quantization", "calibrated, depthwise filters rescaled"]
    assert len(names) == 7 and results["verified"] == "passed"
    assert all(0 <= row["accuracy"] <= 1 and 0 <= row["agreement"] <= 1 for row in results["rows"])
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == json.loads(json.dumps(results))
    for file in ("stock", "calibrated", "blocks", "thresholds", "pointwise", "answers", "int8"):
        assert (tmp_path / "out" / f"{file}.tflite").read_bytes()[4:8] == b"TFL3"
    table = pipeline.result_table(results)
    assert "agrees with float" in table and "peak memory" in table


def test_without_labels_and_without_training(model_file, folder, tmp_path):
    results = pipeline.run(model_file, str(folder / "cat"), tmp_path, value_range="0,1", stages="equalize", stock=False)
    assert [row["name"] for row in results["rows"]] == ["float", "calibrated, layers equalized"]
    assert results["rows"][0]["accuracy"] is None and "accuracy" not in pipeline.result_table(results)


@pytest.mark.parametrize("scheme, first", [("", "ranges evened"), ("mode=scalar", "layers equalized")])
def test_where_no_stages_are_said(model_file, folder, tmp_path, scheme, first):
    results = pipeline.run(model_file, str(folder), tmp_path, value_range="0,1", scheme=scheme, epochs=1, stock=False)
    names = [row["name"] for row in results["rows"]]
    assert names == ["float", f"calibrated, {first}", "+ thresholds trained", "+ range of the answers chosen"]


def test_a_stage_that_makes_it_worse_is_undone(model_file, folder, tmp_path):
    pipeline.run(model_file, str(folder), tmp_path, value_range="0,1", stock=False, hparams="learning_rate=30.0")
    assert (tmp_path / "thresholds.tflite").read_bytes() == (tmp_path / "calibrated.tflite").read_bytes()


def test_a_file_of_keras_3(folder, tmp_path):
    model = keras_3.Sequential([keras_3.Input((16, 16, 3)), keras_3.layers.Rescaling(1 / 255)])
    for layer in (keras_3.layers.Conv2D(8, 3), keras_3.layers.GlobalAveragePooling2D(), keras_3.layers.Dense(2)):
        model.add(layer)
    model.save(tmp_path / "m.keras")
    file = str(tmp_path / "m.keras")
    results = pipeline.run(file, str(folder), tmp_path / "out", stages="", stock=False, hparams="batch_size=4")
    assert results["verified"] == "passed"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"model": "none.keras"}, "--model none.keras: expected a .keras or .h5 file or a SavedModel folder"),
        ({"value_range": ""}, "--range: expected what the network takes"),
        ({"value_range": "1"}, "--range: expected two numbers"),
        (
            {"stages": "thresholds,rescale"},
            "--stages: expected some of .*; ranges or rescale or equalize first",
        ),
        ({"stages": "rescale,equalize"}, "--stages: expected some of"),
        ({"stages": "weights"}, "--stages: expected some of"),
        ({"stages": "ranges", "scheme": "mode=scalar"}, "--stages: ranges expects one weight scale per channel"),
        ({"hparams": "rate=1"}, "--hparams: expected one of"),
        ({"hparams": "loss=mse"}, "--hparams: loss: expected one of None, rmse, smooth_l1, kl, got 'mse'"),
        ({"scheme": "bits=1"}, "bits: expected an integer from 2 to 8"),
    ],
)
def test_bad_arguments(model_file, folder, tmp_path, arguments, message):
    given = {"model": model_file, "data": str(folder), "workdir": tmp_path, "value_range": "0,1", "stock": False}
    with pytest.raises(ValueError, match=message):
        pipeline.run(**{**given, **arguments})


def test_a_rescaling_layer_says_the_range():
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs)))
    prepare = network.preparation(model, "")
    np.testing.assert_array_equal(prepare(np.array([0, 255], np.uint8)), [0, 255])
    prepare = network.preparation(model, "-1,1")
    np.testing.assert_allclose(prepare(np.array([0, 255], np.uint8)), [-1, 1], atol=1e-6)
    np.testing.assert_allclose(prepare(tf.constant([0, 255], tf.uint8)), [-1, 1], atol=1e-6)
