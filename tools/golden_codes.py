"""Random input codes for the small files of tests/golden, and what the stock interpreter answers to their int8 twins.

python tools/golden_codes.py FOLDER      # NAME_packed.tflite, NAME_int8.tflite, NAME.in, NAME.out
"""

import shutil
import sys
from pathlib import Path

import numpy as np

from keras_dbq.runtime.interpreter import Interpreter

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "0.1"
NAMES = ("dbq_1", "dbq_2")
EXAMPLES = 20


def main(folder: str) -> None:
    for name in NAMES:
        for encoding in ("packed", "int8"):
            shutil.copy(GOLDEN / f"{name}_{encoding}.tflite", folder)
        interpreter = Interpreter(GOLDEN / f"{name}_int8.tflite", delegate=False)
        shape = (EXAMPLES, *interpreter.input_details[0]["shape"][1:])
        codes = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
        (Path(folder) / f"{name}.in").write_bytes(codes.tobytes())
        answers = np.concatenate([interpreter.predict(codes[i : i + 1]) for i in range(EXAMPLES)])
        (Path(folder) / f"{name}.out").write_bytes(answers.tobytes())


if __name__ == "__main__":
    main(sys.argv[1])
