"""Every builtin operator that the delegate takes over, against the stock interpreter of both runtimes: no byte off."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from keras_dbq.runtime.interpreter import delegate_path
from tests.tflite_ops.builtin_models import LEFT

COUNT = 45


@pytest.mark.parametrize("runtime", ["litert", "tensorflow"])
def test_bytes_are_the_stock_interpreters(runtime: str) -> None:
    """On every instruction set of this processor. All but single examples are taken, or the test would say nothing.

    Operators that are left to the runtime are all left: whole networks would show what a test of them cannot.
    """
    worker = Path(__file__).with_name("builtin_worker.py")
    command = [sys.executable, str(worker), str(delegate_path()), runtime, str(COUNT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    for operator, result in json.loads(done.stdout.splitlines()[-1]).items():
        assert result["differing"] == [], f"(instruction set, seed) of {operator} whose bytes differ"
        if operator in LEFT["x86_64"]:
            assert result["left"] == result["plain"] > 0, operator
        else:
            assert result["left"] <= 0.1 * result["plain"], operator
        assert result["broken"] <= (0 if runtime == "litert" else 0.2 * COUNT), operator
