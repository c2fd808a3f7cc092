#!/usr/bin/env python3
"""A C++ compiler with g++'s flags for an old C library: zig's, from the PyPI package `ziglang`.

    CXX="python -I tools/zig_cxx.py aarch64-linux-gnu.2.17" pip wheel .    # -I: pip hides its packages from a build

The first argument is the target: processor, system, version of glibc. zig writes processors' features in its own way
and does not say the name of a target that has a version; both are translated here.
"""

from __future__ import annotations

import os
import re
import sys

# -march=armv8.2-a+dotprod+i8mm -> generic+v8_2a+dotprod+i8mm
_MARCH = re.compile(r"-march=armv8(?:\.(\d))?-a((?:\+\w+)*)")


def zig_flag(flag: str) -> str:
    """A flag of g++ as zig writes it."""
    match = _MARCH.fullmatch(flag)
    if match is None:
        return flag
    version = f"+v8_{match[1]}a" if match[1] else ""
    return f"-mcpu=generic{version}{match[2]}"


def command(target: str, flags: list[str]) -> list[str]:
    """The program and its arguments."""
    return [sys.executable, "-I", "-m", "ziglang", "c++", "-target", target, *map(zig_flag, flags)]


def main(target: str, *flags: str) -> None:
    """Becomes the compiler."""
    if flags == ("-dumpmachine",):
        print(target.partition(".")[0])
        return
    arguments = command(target, list(flags))
    os.execv(arguments[0], arguments)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(f"zig_cxx: expected a target and flags of a compiler, got {sys.argv[1:]}")
    main(*sys.argv[1:])
