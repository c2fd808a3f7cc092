"""Thousands of damaged files: each is refused with an error or runs; none crashes the process.

The files are tried in a subprocess (fuzz_worker.py, which also says what is left out and why). The same damage to
tensors runs under the address and undefined-behaviour sanitizers in tflite_ops/tests/delegate_test.cc.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from keras_dbq.runtime.interpreter import delegate_path

WORKER = Path(__file__).with_name("fuzz_worker.py")


def _run(library: str, mode: str, first: int, count: int) -> tuple[int, int, re.Match[str] | None]:
    """Exit status, last seed tried, and the summary (None after a crash)."""
    command = [sys.executable, str(WORKER), library, mode, str(first), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    seeds = re.findall(r"seed (\d+)", done.stdout)
    assert seeds, f"{' '.join(command)} tried nothing: {done.stderr[-500:]}"
    return done.returncode, int(seeds[-1]), re.search(r"ran (\d+) refused (\d+) left out (\d+) ours (\d+)", done.stdout)


def test_damaged_tensors_never_crash() -> None:
    count = 3000
    status, seed, summary = _run(str(delegate_path()), "tensors", 0, count)
    assert status == 0, f"status {status} at seed {seed}: fuzz_worker.py {delegate_path()} tensors {seed} 1"
    assert summary is not None
    ran, refused, left_out, ours = map(int, summary.groups())
    assert seed == count - 1 and ran + refused + left_out == count
    assert left_out < count // 20, "too few of the damages were tried"
    assert ours > count // 2, "the packed operators saw few of the damages"
    assert ran > count // 50, "no damage was harmless: is anything run at all?"


def test_damaged_bytes_never_crash_the_operators() -> None:
    """Random bytes of the whole file; a crash of the stock parser on the same file is TFLite's and is skipped."""
    first, end, left_out = 0, 8000, 0
    while first < end:
        status, seed, _ = _run(str(delegate_path()), "bytes", first, end - first)
        if status == 0:
            break
        stock, _, _ = _run("stock", "bytes", seed, 1)
        assert stock != 0, f"status {status}, stock runs: fuzz_worker.py {delegate_path()} bytes {seed} 1"
        first, left_out = seed + 1, left_out + 1
    assert left_out <= 8, f"{left_out} of {end} files crash the stock parser; too many to mean anything"
