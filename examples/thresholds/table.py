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


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only, got {argv[1:]}")
    cells: dict[str, list[str]] = {}
    for column, scheme in COLUMNS.items():
        for path, stages in PATHS.items():
            folder = Path(FLAGS.workdir) / f"{column.replace(' ', '_')}_{path}"
            if not (folder / "results.json").is_file():
                print(f"{column}, {path}", flush=True)
                stock = [] if column == next(iter(COLUMNS)) and path == "plain" else ["--nostock"]
                program = str(Path(__file__).with_name("main.py"))
                arguments = [*FLAGS.arg, "--workdir", str(folder), "--scheme", scheme, "--stages", stages, *stock]
                subprocess.run([sys.executable, program, *arguments], check=True)
            results = json.loads((folder / "results.json").read_text())
            rows = {row["name"]: row for row in results["rows"]}
            for name in ("float", "stock post-training quantization"):
                if name in rows:
                    cells.setdefault(name, [_cell(rows.pop(name))] + [""] * (len(COLUMNS) - 1))
                rows.pop(name, None)
            for name, row in zip(ROWS[path], rows.values(), strict=True):
                cells.setdefault(name, []).append(_cell(row))
    table = Table(["top-1 / agrees with float", *COLUMNS])
    for name in ("float", "stock post-training quantization", *sum(ROWS.values(), [])):
        table.add(name, *cells[name])
    print(table, flush=True)


def _cell(row: dict) -> str:
    accuracy = "" if row["accuracy"] is None else f"{100 * row['accuracy']:.2f} / "
    return f"{accuracy}{100 * row['agreement']:.2f} %"


if __name__ == "__main__":
    app.run(main)
