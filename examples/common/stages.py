"""One trained stage of a run and its files in the work folder, so that a killed run goes on where it was.

NAME.json     the settings that decide the stage; a run with others is refused
NAME_backup/  after each epoch: weights, optimizer, epoch (Keras' BackupAndRestore); gone when the stage is finished
NAME.csv      a row of figures an epoch (Keras' CSVLogger)
NAME_best/    the weights of the epoch with the best test figure (Keras' ModelCheckpoint)
NAME.keras    the trained model; it is written last, so that where it lies the stage is finished
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_dbq._files import write_file
from keras_dbq.compat import keras, tf

_EPOCH = "ckpt_saved_epoch/.ATTRIBUTES/VARIABLE_VALUE"  # BackupAndRestore's name for the last finished epoch


@dataclass(frozen=True)
class Stage:
    """Files of one stage. writes: whether this process is the one that writes them (the chief)."""

    workdir: Path
    name: str
    writes: bool = True

    def file(self, ending: str) -> Path:
        """The file or folder of this stage with an ending such as ".csv" or "_backup"."""
        return self.workdir / (self.name + ending)

    @property
    def finished(self) -> bool:
        """Whether the trained model is there."""
        return self.file(".keras").is_file()


def open_stage(workdir: Path, name: str, settings: dict[str, Any], writes: bool = True) -> Stage:
    """The stage of this name, new or begun by an earlier run with the same settings.

    Raises ValueError where it was begun with other settings.
    """
    stage = Stage(workdir, name, writes)
    record, settings = stage.file(".json"), json.loads(json.dumps(settings))
    if record.is_file():
        begun = json.loads(record.read_text())
        changed = sorted(key for key in {*settings, *begun} if settings.get(key) != begun.get(key))
        if changed:
            raise ValueError(
                f"{record}: expected a run with these settings, got one with other {', '.join(changed)}; "
                "repeat its settings to go on with it, or choose another --workdir"
            )
    elif writes:
        write_file(record, (json.dumps(settings, indent=2) + "\n").encode())
    return stage


def first_epoch(stage: Stage) -> int:
    """Number of finished epochs in the backup, from which training goes on; 0 where there is none."""
    found = tf.train.latest_checkpoint(str(stage.file("_backup") / "chief"))
    return 0 if found is None else int(tf.train.load_variable(found, _EPOCH)) + 1


def history(stage: Stage) -> list[dict[str, float]]:
    """The figures of the finished epochs: epoch, counted from 1, and what `fit` logs; NaN is left out."""
    if not stage.file(".csv").is_file():
        return []
    rows = csv.DictReader(io.StringIO(stage.file(".csv").read_text()))
    return [_figures(row) for row in rows]


def _figures(row: dict[str, str]) -> dict[str, float]:
    values = {name: float(value) for name, value in row.items() if name != "epoch" and value != "NA"}
    return {"epoch": int(row["epoch"]) + 1} | {k: v for k, v in values.items() if not math.isnan(v)}


def forget_rows(stage: Stage, epochs: int) -> None:
    """Leaves the first `epochs` rows in the table: a later one's epoch was not backed up and is trained again."""
    file = stage.file(".csv")
    if stage.writes and file.is_file():
        lines = file.read_text().splitlines(keepends=True)
        if epochs:
            write_file(file, "".join(lines[: epochs + 1]).encode())
        else:
            file.unlink()


def finish(stage: Stage, model: Any) -> None:
    """Saves the trained model, completely or not at all, and drops the backup."""
    part = stage.file(".part.keras")
    model.save(part)
    os.replace(part, stage.file(".keras"))
    shutil.rmtree(stage.file("_backup"), ignore_errors=True)


def load(stage: Stage) -> Any:
    """The trained model of a finished stage."""
    return keras.models.load_model(stage.file(".keras"), compile=False)


def fingerprint(model: Any) -> str:
    """Sixteen hex digits that follow from the weights: two networks of one name are told apart by it."""
    digest = hashlib.sha256()
    for value in model.get_weights():
        digest.update(value.tobytes())
    return digest.hexdigest()[:16]
