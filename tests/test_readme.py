"""What the documents say to type exists: names and arguments of Python blocks, programs, flags, targets. test_docs.py
runs the blocks.
"""

import ast
import functools
import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

DOCUMENTS = sorted(
    str(path.relative_to(REPOSITORY))
    for pattern in ("*.md", "docs/**/*.md", "examples/*/README.md", "tflite_ops/README.md", "tflite_ops/*/README.md")
    for path in REPOSITORY.glob(pattern)
)


def text_of(document: str) -> str:
    return (REPOSITORY / document).read_text()


def python_blocks(document: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text_of(document), re.DOTALL | re.MULTILINE)


WITH_PYTHON = [document for document in DOCUMENTS if python_blocks(document)]


def commands() -> list[tuple[str, str]]:
    """(document, command) of everything that starts with `python` or `make` on a line of a block or in backticks."""
    found = []
    for document in DOCUMENTS:
        lines = [line for block in re.findall(r"^```\n(.*?)^```", text_of(document), re.DOTALL | re.MULTILINE)
                 for line in block.splitlines()]  # fmt: skip
        spans = re.findall(
            r"(?<!`)`((?:python|make|pip) [^`]+)`", re.sub(r"```.*?```", "", text_of(document), flags=re.DOTALL)
        )
        found += [(document, re.sub(r"\s+", " ", c).split(" #")[0].strip()) for c in [*lines, *spans]]
    return [(document, c) for document, c in found if re.match(r"(python|make|pip) ", c)]


def program_of(command: str) -> tuple[str, list[str]] | None:
    """(file, arguments) of `python examples/x.py ...` and `python -m examples.x ...`; None of other commands."""
    words = shlex.split(command.replace(" ...", ""))
    if words[:2] == ["python", "-m"] and words[2].startswith("examples"):
        return words[2].replace(".", "/") + ".py", words[3:]
    return (words[1], words[2:]) if words[0] == "python" and words[1].endswith(".py") else None


# (file, arguments, document)
PROGRAMS = sorted({(found[0], tuple(found[1]), d) for d, c in commands() if (found := program_of(c))})

# Every command in a child of one process that has imported TensorFlow. absl's own --only_check_args ends a program
# when its flags are read and valid.
CHECKER = """
import contextlib, io, json, os, runpy, sys, tempfile
import keras_dbq.training.distillation
commands = json.loads(sys.stdin.read())
for file, arguments in commands:
    sys.stdout.flush()
    log = tempfile.TemporaryFile("w+")
    child = os.fork()
    if child == 0:
        sys.argv = [file, *arguments]
        os.dup2(log.fileno(), 1); os.dup2(log.fileno(), 2)
        code = 0
        try:
            runpy.run_path(file, run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException as error:
            print(type(error).__name__, error)
            code = 99
        sys.stdout.flush(); sys.stderr.flush()
        os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    log.seek(0)
    print(json.dumps([status, log.read()]))
"""


def run_all(runs: list[tuple[str, list[str]]]) -> list[tuple[int, str]]:
    """(exit code, output) of every program with its arguments."""
    import json

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)])}
    done = subprocess.run([sys.executable, "-c", CHECKER], input=json.dumps(runs), cwd=REPOSITORY, env=environment,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [tuple(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]


@functools.cache
def outcomes() -> dict[tuple[str, ...], tuple[int, str]]:
    """{(program, arguments): (exit code, output)} of every command of the documents, and of every program's help."""
    flagged = [(file, *arguments) for file, arguments, _ in PROGRAMS if _has_flags(file)]
    runs = [(*run, "--only_check_args") for run in flagged] + sorted({(run[0], "--helpfull") for run in flagged})
    return dict(zip(runs, run_all([(file, arguments) for file, *arguments in runs]), strict=True))


def _has_flags(file: str) -> bool:
    """An example with absl's flags, its own or those of examples.common."""
    text = (REPOSITORY / file).read_text()
    return file.startswith("examples/") and ("absl" in text or "command.run" in text)


def test_the_documents_have_commands_and_blocks():
    assert (
        len(WITH_PYTHON) >= 1 and len(PROGRAMS) > 5 and {"README.md", "CONTRIBUTING.md"} <= {d for d, _ in commands()}
    )


def test_programs_exist():
    missing = [(file, document) for file, _, document in PROGRAMS if not (REPOSITORY / file).is_file()]
    assert not missing


@pytest.mark.slow
def test_commands_have_flags_that_exist():
    """Flags and their values are accepted. A command that is only the beginning of one may lack required flags."""
    for file, arguments, document in (program for program in PROGRAMS if _has_flags(program[0])):
        code, output = outcomes()[(file, *arguments, "--only_check_args")]
        begun = "must have a value other than None" in output and "Unknown command line flag" not in output
        assert code == 0 or begun, f"{document}: {file} {' '.join(arguments)}\n{output[-500:]}"


def test_every_flag_that_an_example_names_is_one_of_its_programs():
    for document in (d for d in DOCUMENTS if d.startswith("examples/")):
        folder = document.rpartition("/")[0] + "/"
        texts = [
            text for run, (_, text) in outcomes().items() if run[0].startswith(folder) and run[1:] == ("--helpfull",)
        ]
        pairs = re.findall(r"--(\[no\])?(\w+)", "".join(texts))
        known = {name for _, name in pairs} | {f"no{name}" for negated, name in pairs if negated}
        named = set(re.findall(r"(?<![\w-])--(\w+)", text_of(document)))
        assert named and not named - known, f"{document}: expected flags of {folder}, got {sorted(named - known)}"


def test_make_targets_and_extras_exist():
    makefile, setup = text_of("Makefile"), text_of("setup.py")
    targets = {word for _, c in commands() if c.startswith("make ") for word in c.split()[1:] if "=" not in word}
    assert targets and not [t for t in targets if not re.search(rf"^{re.escape(t)}:", makefile, re.MULTILINE)]
    extras = {e for _, c in commands() if c.startswith("pip ") for e in re.findall(r"\[(\w+)\]", c)}
    assert not [e for e in extras if f'"{e}":' not in setup]


def test_the_example_has_about_twenty_lines():
    assert len([line for line in python_blocks("README.md")[0].splitlines() if line.strip()]) <= 20


@pytest.mark.parametrize("document", WITH_PYTHON)
def test_calls_of_this_package_have_names_and_arguments_that_exist(document):
    called = 0
    for block in python_blocks(document):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Call) and (function := _of_this_package(ast.unparse(node.func))):
                keywords = {k.arg: None for k in node.keywords if k.arg}
                inspect.signature(function).bind(*node.args, **keywords)
                called += 1
    assert called or "keras_dbq" not in "".join(python_blocks(document))


def _of_this_package(name: str):
    """The function that `keras_dbq.x`, `datasets.x` or `models.x` names; None of others."""
    root, *rest = name.split(".")
    if root not in ("keras_dbq", "datasets", "models") or any(not part.isidentifier() for part in rest):
        return None
    value = importlib.import_module(root if root == "keras_dbq" else f"keras_dbq.{root}")
    for part in rest:
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if re.search(r"^keras-dbq ", text_of(d), re.MULTILINE)])
def test_the_command_takes_what_the_documents_give_it(document):
    from keras_dbq.command import _joined, _parser

    lines = re.findall(r"^keras-dbq (.*)$", text_of(document), re.MULTILINE)
    for line in lines:
        flags = _parser().parse_args(_joined(shlex.split(line, comments=True)))
        assert callable(flags.run), line
