"""Damages small `.tflite` files and loads and runs each: an answer or a one-line ValueError, nothing else.

Usage, from the repository root: python -m tools.fuzz_files --mutants 100000 --seed 1 --jobs 1

Mutant number i of a seed is always the same bytes. What is neither an answer nor a one-line ValueError (a crash,
another error, too slow, no memory) is kept in --out with its number; `--first <number> --mutants 1` tries it again
alone. Ends with a table, and with status 1 where anything was kept.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_dbq._table import Table
from keras_dbq.reference import Engine
from keras_dbq.runtime.interpreter import Interpreter
from keras_dbq.runtime.library import look
from keras_dbq.structure import check_file
from keras_dbq.tflite.pack import pack_bytes
from keras_dbq.tflite.unpack import unpack_tflite

CORPUS = Path(__file__).resolve().parents[1] / "tests" / "fuzz" / "corpus"
OUTCOMES = ("answer", "ValueError", "other error", "crash", "too slow", "no memory")
_WORDS = (0, 1, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 255, 65536, 0x01000000, 0x7FC00000)
# A child is replaced after so many mutants, so that its peak of memory is that of one mutant and not of many.
_PER_CHILD = 10_000
# A mutant that stands still is given up after so many times the seconds that one may work.
_WAITING = 15


def mutant(originals: list[bytes], seed: int, number: int) -> bytes:
    """File `number` of a seed: one of the originals with one to three damages."""
    rng = random.Random(f"{seed}/{number}")
    data = bytearray(rng.choice(originals))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice(_DAMAGES)(data, rng)
    return bytes(data)


def _byte(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] = rng.randrange(256)


def _bit(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _word(data: bytearray, rng: random.Random) -> None:
    """Another value for an aligned word: a special one, a random one, or one beside it."""
    at = 4 * rng.randrange(len(data) // 4)
    old = struct.unpack_from("<I", data, at)[0]
    near = [old + step for step in (-1, 1, -4, 4, rng.randrange(-64, 65))]
    value = rng.choice((rng.choice(_WORDS), rng.getrandbits(32), rng.choice(near)))
    struct.pack_into("<I", data, at, value & 0xFFFFFFFF)


def _short(data: bytearray, rng: random.Random) -> None:
    """Another value for an aligned half word: the fields of vtables."""
    at = 2 * rng.randrange(len(data) // 2)
    old = struct.unpack_from("<H", data, at)[0]
    value = rng.choice((0, 0xFFFF, rng.getrandbits(16), old + 1, old - 1, old + 4, old - 4))
    struct.pack_into("<H", data, at, value & 0xFFFF)


def _swap(data: bytearray, rng: random.Random) -> None:
    """Two words change places."""
    a, b = (4 * rng.randrange(len(data) // 4) for _ in range(2))
    data[a : a + 4], data[b : b + 4] = data[b : b + 4], data[a : a + 4]


def _copy(data: bytearray, rng: random.Random) -> None:
    """A slice over another place of the same file; its length stays."""
    length = min(4 * rng.randint(1, 16), len(data) // 2)
    source, target = (rng.randrange(len(data) - length) & ~3 for _ in range(2))
    data[target : target + length] = data[source : source + length]


def _cut(data: bytearray, rng: random.Random) -> None:
    """The end is missing."""
    del data[rng.randrange(8, max(len(data), 9)) :]


_DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _byte, _byte, _bit, _bit, _word, _word, _word, _short, _short, _swap, _copy, _cut,
)  # fmt: skip


def through_interpreter(data: bytes) -> None:
    """Loads the file and runs it on zeros."""
    interpreter = Interpreter(data)
    zeros = [np.zeros(d["shape"], d["dtype"]) for d in interpreter.input_details]
    interpreter.predict(zeros if len(zeros) > 1 else zeros[0])


def through_engine(data: bytes) -> None:
    """The same in the numpy engine."""
    engine = Engine(data)
    zeros = [np.zeros(tensor.shape, tensor.dtype) for tensor in engine.inputs]
    engine.run(zeros if len(zeros) > 1 else zeros[0])


def through_pack(data: bytes) -> None:
    """Packing and unpacking."""
    pack_bytes(unpack_tflite(data))


def through_checks(data: bytes) -> None:
    """Both checks of a file: the shared object vouches for no file that Python refuses."""
    sure = look(data).whole
    try:
        check_file(data)
    except ValueError:
        if sure:
            raise RuntimeError("the shared object vouches for a file that Python refuses") from None
        raise


THROUGH: dict[str, Callable[[bytes], None]] = {
    "interpreter": through_interpreter,
    "engine": through_engine,
    "pack": through_pack,
    "checks": through_checks,
}


class Shared:
    """Numbers that a child writes and the parent reads, whatever becomes of the child."""

    names = ("now", *OUTCOMES, "base", "peak", "peak_at")

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 8 * len(self.names))

    def __getitem__(self, name: str) -> int:
        return int(struct.unpack_from("q", self.memory, 8 * self.names.index(name))[0])

    def __setitem__(self, name: str, value: int) -> None:
        struct.pack_into("q", self.memory, 8 * self.names.index(name), value)


def outcome_of(run: Callable[[bytes], None], data: bytes) -> tuple[str, str]:
    """What became of one file, and the error's text."""
    try:
        run(data)
    except ValueError as error:
        return ("other error" if "\n" in str(error) else "ValueError"), f"{type(error).__name__}: {error}"
    except MemoryError as error:
        return "no memory", repr(error)
    except Exception as error:
        return "other error", f"{type(error).__name__}: {error}"
    return "answer", ""


def _peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Child:
    """One process that tries mutants first .. last - 1."""

    def __init__(self, options: argparse.Namespace, originals: list[bytes], first: int, last: int):
        self.options, self.originals, self.first, self.last = options, originals, first, last
        self.shared = Shared()
        self.shared["now"] = first - 1
        self.seen, self.since = first - 1, (0.0, time.monotonic())
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.work()
            finally:
                os._exit(3)

    def work(self) -> None:
        """In the child: memory and messages limited, the originals first, then every mutant."""
        if not self.options.verbose:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        run, shared = THROUGH[self.options.through], self.shared
        for original in self.originals:
            outcome_of(run, original)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + (self.options.memory << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        shared["base"] = shared["peak"] = _peak()
        for number in range(self.first, self.last):
            shared["now"] = number
            self.try_one(run, number)
        os._exit(0)

    def try_one(self, run: Callable[[bytes], None], number: int) -> None:
        data = mutant(self.originals, self.options.seed, number)
        outcome, text = outcome_of(run, data)
        self.shared[outcome] += 1
        if outcome not in OUTCOMES[:2]:
            keep(self.options.out, number, outcome, data, text)
        if self.options.verbose:
            print(number, outcome, text, flush=True)
        peak = _peak()
        if peak > self.shared["peak"]:
            self.shared["peak"], self.shared["peak_at"] = peak, number

    def ended(self) -> tuple[str, int] | None:
        """None while it works; else what ended it ("" where it finished) and the first number that is left."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        now = self.shared["now"]
        if pid:
            return ("", self.last) if status == 0 else ("crash", now + 1)
        used, waited = self.clocks()
        if now != self.seen:
            self.seen, self.since = now, (used, waited)
        limit = self.options.seconds
        if used - self.since[0] < limit and waited - self.since[1] < _WAITING * limit:
            return None
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return "too slow", now + 1

    def clocks(self) -> tuple[float, float]:
        """Seconds of a core that the child has used, and the time: a busy machine makes no mutant slow."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), time.monotonic()


def keep(folder: Path, number: int, outcome: str, data: bytes, text: str) -> None:
    """Writes a mutant that was neither answered nor refused, and what was said."""
    folder.mkdir(parents=True, exist_ok=True)
    name = folder / f"{number}_{outcome.replace(' ', '_')}"
    name.with_suffix(".tflite").write_bytes(data)
    name.with_suffix(".txt").write_text(text)


class Fuzzer:
    """Hands out numbers to children until all are tried."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.originals = [path.read_bytes() for path in sorted(options.files)]
        self.counts = dict.fromkeys(OUTCOMES, 0)
        self.growth = (0, -1)
        self.ranges = [
            (first, min(first + _PER_CHILD, options.first + options.mutants))
            for first in range(options.first, options.first + options.mutants, _PER_CHILD)
        ][::-1]
        self.children: list[Child] = []
        self.started = self.shown = time.monotonic()

    def run(self) -> dict[str, int]:
        """Outcome: how many."""
        while self.ranges or self.children:
            while self.ranges and len(self.children) < self.options.jobs:
                self.children.append(Child(self.options, self.originals, *self.ranges.pop()))
            for child in [*self.children]:
                ended = child.ended()
                if ended is not None:
                    self.children.remove(child)
                    self.collect(child, *ended)
            self.progress()
            time.sleep(0.01)
        return self.counts

    def collect(self, child: Child, outcome: str, left: int) -> None:
        """Adds up a child's numbers; what it had not tried goes to another."""
        for name in OUTCOMES:
            self.counts[name] += child.shared[name]
        self.growth = max(self.growth, (child.shared["peak"] - child.shared["base"], child.shared["peak_at"]))
        if not outcome:
            return
        assert left > child.first, "an original file does not run"
        self.counts[outcome] += 1
        number = left - 1
        keep(self.options.out, number, outcome, mutant(self.originals, self.options.seed, number), "")
        if left < child.last:
            self.ranges.append((left, child.last))

    def progress(self) -> None:
        if time.monotonic() - self.shown < self.options.every:
            return
        self.shown = time.monotonic()
        counts = {n: c + sum(child.shared[n] for child in self.children) for n, c in self.counts.items()}
        done = sum(counts.values())
        each = (self.shown - self.started) / max(done, 1)
        left = each * (self.options.mutants - done)
        print(
            f"{done:,} of {self.options.mutants:,}, {1e3 * each:.2f} ms each, {left:.0f} s left, {counts}", flush=True
        )

    def table(self) -> str:
        seconds, files = time.monotonic() - self.started, sum(self.counts.values())
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = used.ru_utime + used.ru_stime
        table = Table(["outcome", "mutants", "share"])
        for name, count in self.counts.items():
            table.add(name, count, f"{100 * count / max(files, 1):.2f} %")
        (growth, at), largest = self.growth, max(map(len, self.originals))
        lines = [
            f"{table}",
            f"{files:,} mutants of {len(self.originals)} files (at most {largest:,} bytes) through "
            f"the {self.options.through}, seed {self.options.seed}",
            f"{seconds:.0f} s, {cpu:.0f} s of a core, {1e3 * cpu / max(files, 1):.2f} ms each",
            f"largest growth of memory was {growth / 2**20:.1f} MiB, at mutant {at}",
        ]
        return "\n".join(lines)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number of the first mutant")
    parser.add_argument("--jobs", type=int, default=1, help="processes at one time")
    parser.add_argument("--through", choices=[*THROUGH], default="interpreter")
    parser.add_argument("--files", type=Path, nargs="+", default=sorted(CORPUS.glob("*.tflite")))
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"), help="where mutants are kept")
    parser.add_argument("--seconds", type=float, default=20, help="of a core, the most that one mutant may take")
    parser.add_argument("--memory", type=int, default=2048, help="MiB that a mutant may take beside what is loaded")
    parser.add_argument("--every", type=float, default=10, help="seconds between two lines of progress")
    parser.add_argument("--verbose", action="store_true", help="say what became of each mutant")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    fuzzer = Fuzzer(arguments(given))
    counts: dict[str, Any] = fuzzer.run()
    print(fuzzer.table())
    return int(any(counts[name] for name in OUTCOMES[2:]))


if __name__ == "__main__":
    sys.exit(main())
