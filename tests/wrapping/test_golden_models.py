"""Models that older versions saved load today: every weight in its place, the same answers, and training goes on."""

from pathlib import Path

import numpy as np
import pytest

from keras_dbq.compat import keras
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "tests" / "golden" / "0.1"
NAMES = ("dbq_1", "dbq_2", "dbq_2_frozen", "fat", "fat_frozen")


@pytest.fixture(scope="module")
def answers():
    with np.load(FOLDER / "answers.npz") as file:
        return dict(file)


def stem(name: str) -> str:
    """The name of a variable without its layer: `quant_stem/stem/kernel:0` and `stem/kernel:0` are one."""
    return name.rpartition("/")[2]


def test_the_names_are_the_files():
    assert {path.stem for path in FOLDER.glob("*.keras")} == set(NAMES) == {path.stem for path in FOLDER.glob("*.h5")}


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("name", NAMES)
def test_saved_models_load_as_they_were(name, ending, answers):
    q_model = keras.models.load_model(Path(FOLDER, f"{name}.{ending}"))
    assert [stem(v.name) for v in q_model.weights] == [stem(n) for n in answers[f"{name}_weights"]]
    assert [stem(v.name) for v in q_model.trainable_variables] == [stem(n) for n in answers[f"{name}_trainable"]]
    for i, value in enumerate(q_model.get_weights()):
        np.testing.assert_array_equal(value, answers[f"{name}_weight_{i}"], err_msg=q_model.weights[i].name)
    np.testing.assert_allclose(q_model.predict(answers["x"], verbose=0), answers[name], rtol=0, atol=1e-6)


# Frozen after the training: the files hold slots of what no longer trains, and Keras then starts the optimizer anew.
STEPS = {"dbq_1": 3, "dbq_2": 3, "fat": 3, "dbq_2_frozen": 0, "fat_frozen": 0}


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("name", NAMES)
def test_training_goes_on_from_the_saved_state(name, ending, answers):
    q_model = keras.models.load_model(Path(FOLDER, f"{name}.{ending}"))
    assert int(q_model.optimizer.iterations) == STEPS[name] or not STEPS[name]
    slots = [np.abs(v.numpy()).max() for v in q_model.optimizer.variables if v.name.startswith("v/")]
    assert (np.mean(np.array(slots) > 0) > 0.8) == (STEPS[name] > 0)
    trained = {id(v) for v in q_model.trainable_variables}
    before = [(v, v.numpy()) for v in q_model.weights]
    q_model.fit(answers["x"], answers["y"], batch_size=16, epochs=1, shuffle=False, verbose=0)
    moved = {stem(v.name) for v, old in before if id(v) in trained and not np.array_equal(v.numpy(), old)}
    assert moved >= ({"gamma:0", "kernel:0"} if "dbq" in name else {"tensor_width:0"})
    # What does not train stays, but for statistics and moving ranges.
    follows = ("moving_mean:0", "moving_variance:0", "_low:0", "_high:0")
    for v, old in before:
        if id(v) not in trained and not v.name.endswith(follows):
            np.testing.assert_array_equal(v.numpy(), old, err_msg=v.name)
