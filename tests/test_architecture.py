"""The sources keep to the table of rooms in docs/architecture.md: imports run one way, without circles."""

import ast
import re
from pathlib import Path

import keras_dbq
from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "keras_dbq"
ROW = re.compile(r"^\| `(\w+)/?` \|.*\| ([\w-]+) \|$", re.MULTILINE)
HEAVY = {"tensorflow", "tf_keras", "keras", "tensorflow_model_optimization"}


def rooms() -> dict[str, str]:
    """{room: what it needs} in the order of the table."""
    return dict(ROW.findall((REPOSITORY / "docs" / "architecture.md").read_text()))


def room_of(module: str) -> str:
    """`keras_dbq.tflite.pack` -> tflite, `keras_dbq` -> __init__."""
    return (module.split(".") + ["__init__"])[1]


def modules() -> dict[str, Path]:
    """{dotted name: file} of every module of the package; a package's is its __init__."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = ("keras_dbq", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules that a file imports, anywhere in it; of this package the files that define them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: expected absolute imports"
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(m if m in known else str(node.module) for m in modules)
    return found


def inner_imports() -> dict[str, set[str]]:
    """{module: modules of this package that it imports}."""
    known = modules()
    return {name: imports(path, known) & set(known) for name, path in known.items()}


def test_the_table_lists_every_room_once():
    on_disk = {room_of(name) for name in modules()}
    assert set(rooms()) == on_disk
    assert len(ROW.findall((REPOSITORY / "docs" / "architecture.md").read_text())) == len(rooms())


def test_imports_go_to_rooms_above():
    order = list(rooms())
    wrong = [
        f"{name} imports {other}"
        for name, others in inner_imports().items()
        for other in others
        if order.index(room_of(other)) > order.index(room_of(name))
    ]
    assert not wrong, "\n".join(sorted(wrong))


def test_files_do_not_import_each_other_in_a_circle():
    graph, done = inner_imports(), set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for other in sorted(graph[name] - {name}):
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_reference_imports_only_checks():
    for name, others in inner_imports().items():
        if room_of(name) == "reference":
            assert {room_of(other) for other in others} <= {"reference", "_checks", "structure"}, name


def test_light_rooms_need_no_tensorflow():
    """A fallback on TensorFlow's copy of the TFLite schema or interpreter is inside of `except ImportError`."""
    light = {room for room, needs in rooms().items() if needs in ("-", "numpy")}
    known = modules()
    for name, path in known.items():
        if room_of(name) in light:
            fallback = "tensorflow" if "except ImportError" in path.read_text() else ""
            heavy = {m.split(".")[0] for m in imports(path, known)} & HEAVY - {fallback}
            assert not heavy, f"{name} imports {heavy}"
            assert "keras_dbq.compat" not in imports(path, known), name


def test_only_compat_names_keras_and_tfmot():
    known = modules()
    for name, path in known.items():
        if name != "keras_dbq.compat":
            named = {m.split(".")[0] for m in imports(path, known)} & {"tf_keras", "tensorflow_model_optimization"}
            assert not named, f"{name} imports {named}"


def test_public_names_stand_in_one_table():
    assert set(keras_dbq.__all__) == {*keras_dbq._PUBLIC, *keras_dbq._SUBMODULES}
    assert all(getattr(keras_dbq, name) is not None for name in keras_dbq.__all__)
