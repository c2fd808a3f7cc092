"""Module paths of version 0.1: each gives the module under its new path, whichever is imported first."""

import importlib
import subprocess
import sys

import pytest

from keras_dbq import _moved


@pytest.mark.parametrize("old", _moved.MOVED)
def test_the_old_path_gives_the_module_under_the_new_one(old):
    assert importlib.import_module(f"keras_dbq.{old}") is importlib.import_module(f"keras_dbq.{_moved.MOVED[old]}")


def test_every_way_to_write_an_import():
    program = (
        "import keras_dbq.branch_ops as a\n"
        "from keras_dbq import branch_ops as b\n"
        "from keras_dbq.branch_ops import staircase\n"
        "import keras_dbq.ops.branches as new\n"
        "assert a is b is new and staircase is new.staircase\n"
        "from keras_dbq.export.naming import folds\n"
        "import keras_dbq.wrapping.naming as naming\n"
        "assert folds is naming.folds\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]


def test_a_path_that_never_was_is_no_module():
    with pytest.raises(ModuleNotFoundError, match="keras_dbq.branches"):
        importlib.import_module("keras_dbq.branches")
