"""Stages: settings that must not change, resuming in one process, finished models."""

import json

import numpy as np
import pytest

from examples.common import stages
from tests.examples.test_resume import load_worker, same_weights, without_seconds

worker = load_worker()


class Stop(worker.keras.callbacks.Callback):
    """Ends the program at the start of an epoch, or in it before a step."""

    def __init__(self, epoch, step=None):
        super().__init__()
        self.at, self.step = epoch, step

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if epoch == self.at and self.step is None:
            raise KeyboardInterrupt

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == (self.at, self.step):
            raise KeyboardInterrupt


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("step", [None, 2])
def test_an_interrupted_training_resumes_to_the_same_weights(tmp_path, optimizer, step):
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole, resumed = worker.model(), worker.model(seed=7)
    history = worker.train(whole, tmp_path / "whole", optimizer=optimizer)
    with pytest.raises(KeyboardInterrupt):
        worker.train(worker.model(), tmp_path / "parts", callbacks=[Stop(2, step)], optimizer=optimizer)
    resumed_history = worker.train(resumed, tmp_path / "parts", optimizer=optimizer)
    assert same_weights(whole, resumed)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert without_seconds(history) == without_seconds(resumed_history)


def test_an_epoch_that_was_logged_but_not_backed_up_is_trained_again_and_logged_once(tmp_path):
    history = worker.train(worker.model(), tmp_path)
    table = tmp_path / "small.csv"
    table.write_text(table.read_text() + "4,0.5,0.5,1")  # half a line, as of a killed process
    again = worker.train(worker.model(seed=3), tmp_path)
    assert again == history


def test_settings_must_not_change(tmp_path):
    stages.open_stage(tmp_path, "dbq", {"branches": 1, "scheme": "", "pair": (1, 2)})
    stages.open_stage(tmp_path, "dbq", {"branches": 1, "scheme": "", "pair": (1, 2)})
    message = r"dbq.json: expected a run with these settings, got one with other branches, seed; repeat its settings"
    with pytest.raises(ValueError, match=message) as error:
        stages.open_stage(tmp_path, "dbq", {"branches": 2, "scheme": "", "pair": (1, 2), "seed": 0})
    assert "\n" not in str(error.value)
    assert json.loads((tmp_path / "dbq.json").read_text())["branches"] == 1


def test_only_the_chief_writes(tmp_path):
    stage = stages.open_stage(tmp_path, "dbq", {"branches": 1}, writes=False)
    (tmp_path / "dbq.csv").write_text("epoch,loss\n0,1.0\n")
    stages.forget_rows(stage, 0)
    assert [file.name for file in tmp_path.iterdir()] == ["dbq.csv"]


def test_a_finished_model_loads_and_its_backup_is_gone(tmp_path):
    stage = stages.open_stage(tmp_path, "small", {"learning_rate": 0.02})
    assert not stage.finished
    model = worker.model()
    worker.train(model, tmp_path)
    assert stages.first_epoch(stage) == worker.EPOCHS
    stages.finish(stage, model)
    assert stage.finished and same_weights(stages.load(stage), model)
    assert not stage.file("_backup").exists() and not stage.file(".part.keras").exists()


def test_a_fingerprint_follows_from_the_weights():
    a, b = worker.model(), worker.model()
    assert stages.fingerprint(a) == stages.fingerprint(b) != stages.fingerprint(worker.model(seed=1))
    weights = b.get_weights()
    weights[-1] = np.nextafter(weights[-1], np.float32(1))
    b.set_weights(weights)
    assert stages.fingerprint(a) != stages.fingerprint(b)
