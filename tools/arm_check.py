"""Holds whole networks on this processor to what the machine answered that made them, byte for byte.

    python tools/arm_check.py FOLDER      # made by tools/arm_networks.py

Needs numpy, ai-edge-litert and keras_dbq, not TensorFlow. Any difference ends with one line and status 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import keras_dbq

ISAS = ("scalar", "neon", "dotprod", "i8mm")


def interpreters(packed: Path, int8: Path) -> dict[str, keras_dbq.Interpreter]:
    """The stock interpreter, ours on both files, and ours on every instruction set of this processor."""
    found = {
        "stock, int8": keras_dbq.Interpreter(int8, delegate=False),
        "delegate, int8": keras_dbq.Interpreter(int8),
        "delegate, packed": keras_dbq.Interpreter(packed),
        "delegate, packed, two threads": keras_dbq.Interpreter(packed, 2),
        "delegate, packed, op by op": keras_dbq.Interpreter(packed, preserve_all_tensors=True),
    }
    for isa in ISAS:
        try:
            found[f"delegate, packed, {isa}"] = keras_dbq.Interpreter(packed, isa=isa)
        except ValueError as error:
            if "this processor has no" not in str(error):
                raise
    return found


def main(folder: str) -> None:
    for data in sorted(Path(folder).glob("*.npz")):
        stored = np.load(data)
        files = [data.with_name(f"{data.stem}_{encoding}.tflite") for encoding in ("packed", "int8")]
        checked = interpreters(*files)
        for what, interpreter in checked.items():
            if not np.array_equal(interpreter.predict(stored["x"]), stored["answers"]):
                raise SystemExit(f"{data.stem}: expected the stored answers, got others: {what}")
        print(f"{data.stem}: equal: {'; '.join(checked)}", flush=True)
    heavy = sorted({"tensorflow", "tf_keras"} & set(sys.modules))
    if heavy or not checked:
        raise SystemExit(f"expected networks, and neither TensorFlow nor Keras; got {heavy}")


if __name__ == "__main__":
    main(sys.argv[1])
