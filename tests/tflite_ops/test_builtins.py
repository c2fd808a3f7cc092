"""Every builtin operator that the delegate takes over, against the stock interpreter of both runtimes: no byte off."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from keras_dbq.runtime.interpreter import delegate_path
from tests.tflite_ops.builtin_report import faults

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
    broken = 0 if runtime == "litert" else 0.2 * COUNT
    assert faults("x86_64", json.loads(done.stdout.splitlines()[-1]), broken) == []


def test_the_report_finds_every_fault() -> None:
    good = {"plain": 10, "left": 1, "broken": 0, "differing": []}
    square = {**good, "left": 10}
    assert faults("x86_64", {"add": good, "square": square}) == []
    assert faults("aarch64", {"hard_swish": square}) == []
    for fault in ({"differing": [["avx2", 3]]}, {"left": 2}, {"broken": 1}, {"plain": 0, "left": 0}):
        assert len(faults("x86_64", {"add": {**good, **fault}})) == 1, fault
    assert len(faults("x86_64", {"square": good})) == 1
