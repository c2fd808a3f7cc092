"""The table of one network: scalar and vector, symmetric and asymmetric; plain, rescaled, equalized; trained, tuned.

Usage: python examples/thresholds/table.py --workdir out/table --arg=--model=model.keras --arg=--data=pictures.npz ...

main.py runs once for each column and path, with those arguments. A run whose results.json is there is not repeated.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
sys.path.append(str(Path(__file__).resolve().parents[2]))

from absl import app, flags

from keras_dbq._table import Table

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "Folder for one folder per run.", required=True)
flags.DEFINE_multi_string("arg", [], "Passed on to main.py, such as --arg=--model=model.keras.")

COLUMNS = {
    "vector asymmetric": "mode=vector,symmetric=False",
    "scalar asymmetric": "mode=scalar,symmetric=False",
    "vector symmetric": "mode=vector,symmetric=True",
    "scalar symmetric": "mode=scalar,symmetric=True",
}
PATHS = {
    "plain": "thresholds",
    "rescaled": "rescale,thresholds,pointwise",
    "equalized": "equalize,thresholds,pointwise",
}
ROWS = {
    "plain": ["calibrated", "thresholds trained"],
    "rescaled": ["rescaled, calibrated", "rescaled, thresholds trained", "rescaled, thresholds, point-wise"],
    "equalized": ["equalized, calibrated", "equalized, thresholds trained", "equalized, thresholds, point-wise"],
}

COMMON = ("float", "stock post-training quantization")  # rows of the first run that hold for all


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only, got {argv[1:]}")
    runs = {(c, p): _run(c, p) for c in COLUMNS for p in PATHS}
    table = Table(["top-1 / agrees with float", *COLUMNS])
    for row in next(iter(runs.values())):
        if row["name"] in COMMON:
            table.add(row["name"], _cell(row), *[""] * (len(COLUMNS) - 1))
    for path, names in ROWS.items():
        measured = [[row for row in runs[column, path] if row["name"] not in COMMON] for column in COLUMNS]
        for name, rows in zip(names, zip(*measured, strict=True), strict=True):
            table.add(name, *map(_cell, rows))
    print(table, flush=True)


def _run(column: str, path: str) -> list[dict]:
    """The rows of one run of main.py, made unless its results.json is there."""
    folder = Path(FLAGS.workdir) / f"{column.replace(' ', '_')}_{path}"
    if not (folder / "results.json").is_file():
        print(f"{column}, {path}", flush=True)
        first = column == next(iter(COLUMNS)) and path == next(iter(PATHS))
        stages = ["--scheme", COLUMNS[column], "--stages", PATHS[path], *([] if first else ["--nostock"])]
        program = str(Path(__file__).with_name("main.py"))
        subprocess.run([sys.executable, program, *FLAGS.arg, "--workdir", str(folder), *stages], check=True)
    return json.loads((folder / "results.json").read_text())["rows"]


def _cell(row: dict) -> str:
    accuracy = "" if row["accuracy"] is None else f"{100 * row['accuracy']:.2f} / "
    return f"{accuracy}{100 * row['agreement']:.2f} %"


if __name__ == "__main__":
    app.run(main)
