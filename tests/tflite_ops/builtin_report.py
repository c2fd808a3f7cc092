"""Judges what `builtin_worker` counted: nothing differs, and what is to be taken over is.

python builtin_report.py x86_64|aarch64 <file with the worker's output>
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# Operators that the delegate leaves to the runtime: their rounding is not the same in all runtimes, or in all places.
LEFT = {"x86_64": {"square"}, "aarch64": {"square", "hard_swish"}}


def faults(machine: str, results: dict[str, dict[str, Any]], broken: float = 0) -> list[str]:
    """One line for every operator that is not as it should be; `broken` examples without a stock result may be."""
    found = []
    for operator, result in results.items():
        if result["differing"]:
            found.append(f"{operator}: (instruction set, seed) whose bytes differ: {result['differing']}")
        few, all_left = result["left"] <= 0.1 * result["plain"], result["left"] == result["plain"]
        if not result["plain"] or not (all_left if operator in LEFT[machine] else few):
            found.append(f"{operator}: {result['left']} of {result['plain']} examples are left to the runtime")
        if result["broken"] > broken:
            found.append(f"{operator}: {result['broken']} examples have no stock result")
    return found


def main(machine: str, path: str) -> None:
    results = json.loads(Path(path).read_text().splitlines()[-1])
    found = faults(machine, results)
    if found or not results:
        raise SystemExit("\n".join(found) or "no operator was compared")
    taken = [operator for operator in results if operator not in LEFT[machine]]
    print(f"the stock interpreter's bytes: {', '.join(taken)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
