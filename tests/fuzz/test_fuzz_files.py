"""A short run of tools/fuzz_files.py over the committed files; and that it sees what it is there to see."""

import os
import re
import signal
import time

import pytest

from tools import fuzz_files


def run(capsys, *arguments: str) -> tuple[int, dict[str, int], str]:
    """Status, {outcome: mutants} of the table, and the text."""
    status = fuzz_files.main([*arguments])
    text = capsys.readouterr().out
    found = re.findall(r"^(answer|ValueError|other error|crash|too slow|no memory) +([\d,]+) ", text, re.MULTILINE)
    return status, {name: int(count.replace(",", "")) for name, count in found}, text


@pytest.mark.parametrize("through, mutants", [("interpreter", 3000), ("engine", 400), ("pack", 800), ("checks", 3000)])
def test_every_mutant_is_answered_or_refused(through, mutants, capsys, tmp_path):
    arguments = ["--mutants", str(mutants), "--seed", "7", "--through", through, "--out", str(tmp_path)]
    status, counts, text = run(capsys, *arguments)
    assert status == 0 and not any(tmp_path.iterdir()), text
    assert sum(counts.values()) == mutants
    assert counts["answer"] > mutants // 50, "nothing runs: is the check too strict?"
    assert counts["ValueError"] > mutants // 2, "little is refused: is anything damaged?"


def test_memory_of_the_short_run(capsys, tmp_path):
    """No mutant takes more than 64 MiB beside what its original takes."""
    *_, text = run(capsys, "--mutants", "1500", "--seed", "8", "--out", str(tmp_path))
    grown = re.search(r"largest growth of memory was ([\d.]+) MiB", text)
    assert grown is not None and float(grown.group(1)) < 64, text


def test_a_mutant_follows_from_its_number():
    originals = [path.read_bytes() for path in sorted(fuzz_files.CORPUS.glob("*.tflite"))]
    assert len(originals) == 7
    files = [fuzz_files.mutant(originals, 3, i) for i in range(300)]
    assert files == [fuzz_files.mutant(originals, 3, i) for i in range(300)]
    assert files != [fuzz_files.mutant(originals, 4, i) for i in range(300)]
    assert sum(data in originals for data in files) < 30
    assert {len(data) < min(map(len, originals)) for data in files} == {True, False}  # some are cut


def misbehaves(data: bytes) -> None:
    """Crashes, hangs, fails or takes memory, by the bytes of the file; the originals are fine."""
    if data in [path.read_bytes() for path in fuzz_files.CORPUS.glob("*.tflite")]:
        return
    kind = sum(data) % 40
    if kind == 0:
        os.kill(os.getpid(), signal.SIGKILL)  # ends a process as a crash does, but says nothing
    if kind == 1:
        raise RuntimeError("raw")
    if kind == 2:
        raise ValueError("two\nlines")
    if kind == 3:
        bytearray(1 << 34)
    if kind == 4 and data.endswith(b"\x00\x00"):
        end = time.process_time() + 30
        while time.process_time() < end:
            pass


def test_what_goes_wrong_is_seen_and_kept(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(fuzz_files.THROUGH, "interpreter", misbehaves)
    originals = [path.read_bytes() for path in sorted(fuzz_files.CORPUS.glob("*.tflite"))]
    monkeypatch.setattr(fuzz_files, "mutant", lambda _, seed, number: originals[0] + bytes([number % 251]))
    status, counts, text = run(
        capsys, "--mutants", "120", "--jobs", "2", "--seconds", "0.5", "--out", str(tmp_path), "--memory", "256"
    )
    assert status == 1 and sum(counts.values()) == 120, text
    assert counts["crash"] and counts["other error"] and counts["no memory"] and counts["answer"]
    kept = sorted(path.name for path in tmp_path.glob("*.tflite"))
    assert len(kept) == sum(counts[name] for name in fuzz_files.OUTCOMES[2:])
    assert any("RuntimeError: raw" in path.read_text() for path in tmp_path.glob("*.txt"))
    number = next(name.split("_")[0] for name in kept if "crash" in name)
    again, counts, _ = run(capsys, "--mutants", "1", "--first", number, "--out", str(tmp_path / "again"))
    assert again == 1 and counts["crash"] == 1
