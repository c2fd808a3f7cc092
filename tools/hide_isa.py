"""Holds the runtime of this process to an older instruction set, so that both sides of a comparison are.

Linux only, where cpuid can be made to trap (Intel since 2012, most hypervisors); needs a C compiler. Before the first
interpreter is made: a runtime looks at the processor once.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("hide_isa.c")
LEVELS = {"avx512vnni": 0, "avx2": 1}  # what is left -> whether AVX-512 is hidden, beside AMX


def hide(isa: str) -> None:
    """Leaves `isa` and what is older: "avx512vnni" or "avx2".

    Raises:
        RuntimeError: cpuid cannot be made to trap here, or there is no C compiler.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hide_isa.so"
        command = [os.environ.get("CC", "cc"), "-O1", "-shared", "-fPIC", str(SOURCE), "-o", str(path)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise RuntimeError(f"hide_isa: expected a C compiler, got: {error}; install gcc or set CC") from None
        error_number = ctypes.CDLL(str(path)).hide_isa(LEVELS[isa])
    if error_number:
        raise RuntimeError(
            f"hide_isa: expected a system that lets cpuid trap, got: {os.strerror(error_number)}; "
            f"measure on a machine that has no more than {isa}"
        )
