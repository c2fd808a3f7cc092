"""The ImageNet example: cuts of photos, and one step on a tiny folder."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples.imagenet import train
from keras_dbq.compat import tf
from tests.datasets import photos

MAIN = Path(train.__file__).with_name("main.py")


def ramp(height, width):
    """A photo whose red is the row and whose green is the column, scaled to 0..240."""
    rows, columns = np.meshgrid(np.linspace(0, 240, height), np.linspace(0, 240, width), indexing="ij")
    return tf.constant(np.stack([rows, columns, 0 * rows], -1).astype(np.uint8))


def test_a_picture_that_was_cut_before_stays():
    picture = np.random.default_rng(0).integers(0, 256, (train.SIZE, train.SIZE, 3), np.uint8)
    np.testing.assert_array_equal(train.centre_cut(tf.constant(picture)), picture)


def test_the_centre_is_a_square_of_seven_eighths_of_the_shorter_side():
    picture = train.centre_cut(ramp(256, 512)).numpy().astype(float)
    assert picture.shape == (224, 224, 3)
    assert picture[0, 0, 0] == pytest.approx(240 * 16 / 256, abs=2) and picture[-1, 0, 0] == pytest.approx(225, abs=2)
    assert picture[0, 0, 1] == pytest.approx(240 * 144 / 512, abs=2)
    assert picture[0, -1, 1] == pytest.approx(240 * 368 / 512, abs=2)


def test_random_cuts_follow_from_the_seed_and_keep_to_their_bounds():
    photo = ramp(200, 300)
    cuts = [train.random_cut(photo, tf.constant([0, i], tf.int64)).numpy().astype(float) for i in range(40)]
    np.testing.assert_array_equal(cuts[3], train.random_cut(photo, tf.constant([0, 3], tf.int64)))
    height = np.array([(c[-1, 0, 0] - c[0, 0, 0]) / 240 for c in cuts])
    width = np.array([(c[0, -1, 1] - c[0, 0, 1]) / 240 for c in cuts])
    area, ratio = height * width, 300 * width / (200 * height)
    assert area.min() > 0.06 and area.max() <= 1 and area.std() > 0.1
    assert ratio.min() > 0.68 and ratio.max() < 1.45


def test_an_unknown_network():
    with pytest.raises(ValueError, match="network: expected one of mobilenet_v2, mobilenet_v1, resnet, got 'vgg'"):
        train.build(10, {"network": "vgg"})


@pytest.mark.slow
def test_one_step_on_a_folder_of_photos(tmp_path):
    data = photos.write(tmp_path / "photos", train=2, test=1, side=40)
    hparams = "--hparams=batch_size=4,network=mobilenet_v1,calibration=4"
    run = [sys.executable, str(MAIN), f"--data={data}", f"--workdir={tmp_path}/out", "--epochs=1", "--branches=1"]
    subprocess.run([*run, hparams], check=True)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results["history"]) == 1 and results["packed_differs_from_int8"] == 0
