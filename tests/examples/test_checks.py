"""What a run needs at its end is looked for at its start."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import keras_dbq
from examples.cifar10 import train
from examples.common import checks, pipeline
from keras_dbq.runtime import interpreter


def test_a_work_folder_is_made_and_written_to(tmp_path):
    assert checks.workdir(tmp_path / "a" / "b").is_dir() and not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="--workdir .*file: expected a folder that can be written to, got "):
        checks.workdir(tmp_path / "file")
    with pytest.raises(ValueError, match="expected a folder that can be written to"):
        checks.workdir(Path("/proc/keras_dbq"))


def test_the_delegate_loads(monkeypatch, tmp_path):
    checks.delegate()
    broken = tmp_path / "broken.so"
    broken.write_text("no library")
    monkeypatch.setattr(interpreter, "delegate_path", lambda: broken)
    with pytest.raises(ValueError, match="packed files: expected a delegate that loads, got: .*run `pip install .`"):
        checks.delegate()


def test_missing_packages_are_named():
    checks.packages("numpy")
    with pytest.raises(ImportError, match="expected the packages no_such_thing, found none; run: pip install no_such"):
        checks.packages("numpy", "no_such_thing")


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        ("forwards=hard", "--scheme: expected one of forward, thresholds, .*, got 'forwards'"),
        ("branches=1", "--scheme: expected one of forward, .*, got 'branches'"),
        ("forward=softly", "--scheme: forward.*expected one of .*got 'softly'"),
        ("temperature=-1", "--scheme: temperature: expected a number"),
        ("overrides={'conv*': {'branches': 3}}", r"--scheme: overrides: conv\*: expected 1 or 2 branches, which pack"),
    ],
)
def test_schemes(scheme, message):
    with pytest.raises(ValueError, match=message) as error:
        checks.scheme(keras_dbq.DBQScheme, scheme, 2)
    assert "\n" not in str(error.value)
    assert checks.scheme(keras_dbq.DBQScheme, "forward=smooth", 1).ternary["branches"] == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"branches": 3}, "--branches: expected 0 to 2, got 3"),
        ({"distill": 1.5}, "--distill: expected 0 to 1, got 1.5"),
        ({"epochs": 0}, "--epochs: expected 1 to"),
        ({"hparams": "depht=8"}, "--hparams: expected one of .*depth, got 'depht'"),
        ({"hparams": "bfloat16=yes"}, "--hparams: bfloat16: expected True or False, got 'yes'"),
        ({"hparams": "optimizer=lamb"}, "optimizer: expected one of sgd, adam, got 'lamb'"),
        ({"hparams": "batch_size=0"}, "--hparams batch_size: expected 1 to"),
        ({"hparams": "basis_rounds=-1"}, "--hparams basis_rounds: expected 0 to"),
        ({"hparams": "reconstruct_epochs=-1"}, "--hparams reconstruct_epochs: expected 0 to"),
        ({"hparams": "distill_epochs=-1"}, "--hparams distill_epochs: expected 0 to"),
        ({"hparams": "distill_batch_size=0"}, "--hparams distill_batch_size: expected 1 to"),
        ({"hparams": "distill_codes=hard"}, "--hparams distill_codes: expected one of 'latent', 'settled', 'annealed'"),
        ({"hparams": "distill_augment=shift+turn"}, "--hparams distill_augment: expected one of 'shift', 'crop'"),
        ({"hparams": "batch_size=2000"}, "--data digits: expected pictures for a batch of 2000, got 1442"),
        ({"scheme": "treshold=1"}, "--scheme: expected one of .*, got 'treshold'"),
        ({"strategy": "all"}, "--strategy: expected one of none, mirrored, multiworker, got 'all'"),
        ({"float_model": "none.keras"}, "--float_model none.keras: expected a file, found none"),
        ({"data": "none.npz"}, "data: expected a file at none.npz, found none"),
    ],
)
def test_a_run_that_cannot_end_does_not_begin(tmp_path, flags, message):
    with pytest.raises(ValueError, match=message) as error:
        pipeline.run(train.TASK, **{"data": "digits", "workdir": tmp_path, **flags})
    assert "\n" not in str(error.value)


def test_a_float_model_for_other_pictures(tmp_path):
    train.models.resnet_cifar(8, (16, 16, 3), 10).save(tmp_path / "small.keras")
    with pytest.raises(ValueError, match=r"small.keras: expected a network from 32 x 32 x 3 to 10 classes, got \(16"):
        pipeline.run(train.TASK, "digits", tmp_path / "out", float_model=str(tmp_path / "small.keras"))


def test_the_demo_is_checked_at_its_start(tmp_path):
    demo = pytest.importorskip("examples.demo.demo", reason="matplotlib is not installed")
    with pytest.raises(ValueError, match="--branches: expected 1 to 2, got 3"):
        demo.run(tmp_path, branches=3)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="--out .*file: expected a folder that can be written to"):
        demo.run(tmp_path / "file")


@pytest.mark.slow
def test_a_misspelled_flag(tmp_path):
    main = Path(train.__file__).with_name("main.py")
    done = subprocess.run([sys.executable, main, f"--workdir={tmp_path}", "--epoch=1"], capture_output=True, text=True)
    assert done.returncode != 0 and "Unknown command line flag 'epoch'" in done.stderr


def test_the_way_to_prepare_pictures_is_chosen_by_name():
    x = np.array([[[[0, 100, 255]]]], np.uint8)
    defaults = train.TASK.defaults
    assert train.TASK.chosen(defaults) is train.TASK
    np.testing.assert_array_equal(train.TASK.chosen({**defaults, "pixels": "bytes"}).prepare(x), x.astype(np.float32))
    with pytest.raises(ValueError, match="pixels: expected one of own, bytes, got 'raw'"):
        train.TASK.chosen({**defaults, "pixels": "raw"})
