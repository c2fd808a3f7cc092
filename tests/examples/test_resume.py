"""Killed trainings resume to the same end."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

WORKER = Path(__file__).with_name("resume_worker.py")
MAIN = Path(__file__).resolve().parents[2] / "examples" / "cifar10" / "main.py"


def load_worker():
    spec = importlib.util.spec_from_file_location("resume_worker", WORKER)
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    return worker


def kill_after(command: list[str], awaited: Path, seconds: float, timeout: float = 300.0) -> None:
    """Starts a process and kills it some time after a file came to be, while it trains an epoch."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + timeout
        while not awaited.exists():
            assert process.poll() is None and time.monotonic() < limit, f"{awaited} was not written"
            time.sleep(0.02)
        time.sleep(seconds)
        assert process.poll() is None, "training ended before it could be killed"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def same_weights(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.get_weights(), b.get_weights(), strict=True))


def without_seconds(history: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_weights(tmp_path):
    """Killed in the middle of the second epoch, then of the one that it begins again with."""
    worker = load_worker()
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
    whole, resumed = worker.model(), worker.model(seed=5)
    history = worker.train(whole, tmp_path / "whole")
    backup = tmp_path / "killed" / "small_backup" / "chief" / "checkpoint"
    command = [sys.executable, str(WORKER), str(tmp_path / "killed")]
    kill_after(command, backup, seconds=0.6)
    second = backup.with_name("ckpt-2.index")
    kill_after(command, second, seconds=0.6)
    resumed_history = worker.train(resumed, tmp_path / "killed")
    assert same_weights(whole, resumed)
    assert len(history) == worker.EPOCHS and without_seconds(history) == without_seconds(resumed_history)


@pytest.mark.slow
def test_the_cifar10_example_resumes_and_ends_with_the_same_results(tmp_path):
    """Digits, a ResNet of depth 8, one branch: killed in DBQ training, started again, compared with an unbroken run."""

    def command(workdir):
        flags = ["--epochs=3", "--branches=1", "--hparams=depth=8", f"--float_model={tmp_path}/float/float.keras"]
        return [sys.executable, str(MAIN), f"--workdir={workdir}", *flags]

    float_flags = [f"--workdir={tmp_path}/float", "--epochs=4", "--branches=0", "--hparams=depth=8"]
    subprocess.run([sys.executable, str(MAIN), *float_flags], check=True, env=dict(os.environ))
    subprocess.run(command(tmp_path / "whole"), check=True)
    kill_after(command(tmp_path / "killed"), tmp_path / "killed" / "dbq_backup" / "chief" / "checkpoint", seconds=0.3)
    done = subprocess.run(command(tmp_path / "killed"), check=True, capture_output=True, text=True)
    assert "resuming" in done.stdout
    again = subprocess.run(command(tmp_path / "killed"), check=True, capture_output=True, text=True)
    assert "Epoch" not in again.stdout  # a finished stage is not trained again
    for file in ("int8.tflite", "packed.tflite"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "killed" / file).read_bytes()
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "killed")]
    for name in ("packed_accuracy", "int8_accuracy", "quantized_accuracy", "packed_bytes"):
        assert results[0][name] == results[1][name]
    assert without_seconds(results[0]["history"]) == without_seconds(results[1]["history"])
    assert results[0]["packed_differs_from_int8"] == 0


@pytest.mark.slow
def test_the_vww_example_distils_pictures_without_labels(tmp_path):
    """A tiny set without labels: --distill=1 trains on it, anything else is refused in one line."""
    main = MAIN.parent.parent / "vww" / "main.py"
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (64, 96, 96, 3), np.uint8)
    labels = np.arange(64) % 2
    np.savez(tmp_path / "labelled.npz", x_train=x, y_train=labels, x_test=x[:8], y_test=labels[:8])
    np.savez(tmp_path / "unlabelled.npz", x_train=x, y_train=np.full(64, -1), x_test=x[:8], y_test=labels[:8])
    run = [sys.executable, str(main), "--epochs=1", "--hparams=batch_size=32"]
    subprocess.run([*run, f"--data={tmp_path}/labelled.npz", f"--workdir={tmp_path}/f", "--branches=0"], check=True)
    run += [f"--data={tmp_path}/unlabelled.npz", f"--float_model={tmp_path}/f/float.keras", f"--workdir={tmp_path}/q"]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode != 0 and "need --float_model and --distill=1" in done.stderr
    run += ["--distill=1", "--branches=1", "--hparams=batch_size=32,fill_dead_channels=True"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert "channels from" in done.stdout  # the table of dead channels
    results = json.loads((tmp_path / "q" / "results.json").read_text())
    assert results["packed_differs_from_int8"] == 0 and "accuracy" not in results["history"][0]
