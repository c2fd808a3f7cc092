"""Both ways of starting an example take the installed keras_dbq, not that of the source tree beside it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import keras_dbq

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("start", [["-m", "examples.cifar10.main"], ["examples/cifar10/main.py"]], ids=["-m", "path"])
def test_the_installed_package_is_used(tmp_path, start):
    """In a copy of the tree without a delegate, a run gets past the check of the delegate to that of the data."""
    tree, installed = tmp_path / "tree", tmp_path / "installed"
    without = shutil.ignore_patterns("*.so", "__pycache__")
    for name in ("examples", "keras_dbq"):
        shutil.copytree(REPOSITORY / name, tree / name, ignore=without)
    installed.mkdir()
    (installed / "keras_dbq").symlink_to(Path(keras_dbq.__file__).parent)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    environment["PYTHONPATH"] = str(installed)
    command = [sys.executable, *start, "--data=none.npz", f"--workdir={tmp_path}/out"]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert "expected a file at none.npz, found none" in done.stderr, done.stderr[-500:]
