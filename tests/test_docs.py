"""The documents are run: Python blocks and `keras-dbq` commands in the order in which they stand on a page, in one
folder, and what a page prints behind them is what they print, but for the numbers.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_readme import DOCUMENTS, text_of

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# Text that a page takes for given, by document and number of its Python block; the text around it says the same.
GIVEN = {("README.md", 1): "x = x_train[:96].astype('float32')"}
# Trainings and data are cut down: the page's own numbers are not looked at. Float training keeps some steps: the first
# ones leave batch norm with statistics that have little to do with the data.
FEWER = (
    (r"\bdata\.([xy])_train\b", r"data.\1_train[:512]"),
    (r"\bepochs=20\b", "epochs=04"),
    (r"\bepochs=[1-9]\d*", "epochs=1"),
    (r"\bepochs=04", "epochs=4"),
    (r"--(distill|reconstruct) \d+", r"--\1 1"),
    (r"--rounds \d+", "--rounds 3"),
)

# Runs the steps [kind, text] of standard input, and prints what each has printed as a list.
DRIVER = """
import contextlib, io, json, shlex, sys
names, outputs = {"__name__": "__main__"}, []
for kind, text in json.loads(sys.stdin.read()):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if kind == "python":
            exec(compile(text, "<page>", "exec"), names)
        else:
            from keras_dbq.command import main
            code = main(shlex.split(text, comments=True))
            assert code == 0, f"exit code {code}: keras-dbq {text}"
    outputs.append(printed.getvalue())
json.dump(outputs, open("outputs.json", "w"))
"""

# A network of Keras 3 and some photos, as every page may take them for given.
FILES = """
import keras
import numpy as np
from pathlib import Path
from PIL import Image
L = keras.layers
keras.Sequential([keras.Input((16, 16, 3)), L.Rescaling(1 / 127.5, offset=-1), L.Conv2D(8, 3, activation="relu"),
                  L.Conv2D(8, 1), L.GlobalAveragePooling2D(), L.Dense(4)]).save("model.keras")
Path("photos").mkdir()
for number in range(12):
    photo = np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype="uint8")
    Image.fromarray(photo).save(f"photos/{number}.png")
keras.utils.clear_session()  # layers of the page are numbered from the beginning
"""

Step = tuple[str, str]


def steps(document: str) -> list[tuple[Step, str]]:
    """[((kind, text), what it prints)] of a page; kind is "python" or "command", "" where nothing is shown."""
    found: list[tuple[Step, str]] = []
    blocks = 0
    for language, text in FENCE.findall(text_of(document)):
        if language == "python":
            found.append((("python", GIVEN.get((document, blocks), "") + "\n" + text), ""))
            blocks += 1
        elif language == "text" and found:
            found[-1] = (found[-1][0], text)
        elif not language:
            lines = [line.removeprefix("keras-dbq ") for line in text.splitlines() if line.startswith("keras-dbq ")]
            found += [(("command", line), "") for line in lines]
    return found


RUNNABLE = [document for document in DOCUMENTS if steps(document)]


def run(document: str, folder: Path) -> list[str]:
    """What each step of a page prints."""
    short = [("python", FILES), *(step for step, _ in steps(document))]
    for pattern, fewer in FEWER:
        short = [(kind, re.sub(pattern, fewer, text)) for kind, text in short]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", DRIVER], input=json.dumps(short), cwd=folder, env=environment,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, f"{document}\n{done.stderr[-3000:]}"
    return json.loads((folder / "outputs.json").read_text())[1:]


def skeleton(printed: str) -> list[str]:
    """Lines without what differs from run to run: numbers, the processor, rules, width of columns."""
    plain = re.sub(r"^.*(?=, \d+ thread\(s\))", "", printed, flags=re.MULTILINE)
    plain = re.sub(r"\d[\d,]*(\.\d+)?(e[-+]?\d+)?|-{2,}", "0", plain)
    return [
        line for line in (re.sub(r"[\s-]+", " ", line).strip() for line in plain.splitlines()) if line not in ("", "0")
    ]


def missing(shown: str, printed: str) -> list[str]:
    """Lines that a page shows and a step does not print; "..." stands for any lines."""
    there = skeleton(printed)
    return [line for line in skeleton(shown) if line != "..." and line not in there]


def test_missing_lines_are_found():
    assert missing("loss 0.25\n...\n", "loss 3e-5\nx") == []
    assert missing("| a-b  12,000 |", "| a-b 7 |\n") == [] and missing("loss 1", "cost 1") == ["loss 0"]
    assert missing("Xeon, 1 thread(s), 300 rounds", "Epyc, 2 thread(s), 3 rounds") == []


def test_the_pages_have_steps():
    assert {"README.md", "docs/start.md", "docs/guides/dbq.md"} <= set(RUNNABLE)
    kinds = [step[0] for document in RUNNABLE for step, _ in steps(document)]
    assert kinds.count("python") > 15 and kinds.count("command") > 8


@pytest.mark.slow
@pytest.mark.parametrize("document", RUNNABLE)
def test_a_page_does_what_it_says(document, tmp_path):
    printed = run(document, tmp_path)
    for ((kind, text), shown), output in zip(steps(document), printed, strict=True):
        gone = missing(shown, output)
        assert not gone, f"{document}: {kind}\n{text}\nexpected the lines {gone}, got\n{output}"
    if document == "README.md":
        accuracy = [line for line in "".join(printed).splitlines() if re.fullmatch(r"[01]\.\d+", line.strip())][-1]
        assert 0.05 < float(accuracy) <= 1 and (tmp_path / "int8.tflite").is_file()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_flags_of_the_command_exist(document):
    """Those of `keras-dbq SUBCOMMAND --flag` inside of sentences, which are no whole commands."""
    from keras_dbq.command import COMMANDS, _parser

    known = {command.name: _flags(_parser(), command.name) for command in COMMANDS}
    for span in re.findall(r"`keras-dbq ([^`]+)`", re.sub(r"```.*?```", "", text_of(document), flags=re.DOTALL)):
        name, *words = shlex.split(span)
        if name.startswith("--"):
            continue
        unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in known[name]]
        assert not unknown, f"{document}: keras-dbq {span}: {unknown}"


def _flags(parser, name: str) -> set[str]:
    own = next(action for action in parser._actions if hasattr(action, "choices") and action.choices).choices[name]
    return set(own._option_string_actions)
