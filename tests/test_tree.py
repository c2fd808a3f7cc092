"""A test file for every source file, in the same tree, and none so long that nobody reads it."""

from tests.conftest import REPOSITORY

PACKAGE, TESTS = REPOSITORY / "keras_dbq", REPOSITORY / "tests"
LONGEST = 400

# Source files whose tests stand elsewhere, and where.
ELSEWHERE = {
    "_moved.py": "golden/test_golden.py",
}


def expected() -> dict[str, str]:
    """{source file: its test file}, both relative; `__init__` files only put names together."""
    sources = (path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py")
    return {str(s): str(s.parent / f"test_{s.name.lstrip('_')}").removeprefix("./") for s in sources}


def test_every_source_file_has_a_test_file():
    missing = [
        f"keras_dbq/{source}: expected tests/{test}, or a line in ELSEWHERE of this file"
        for source, test in expected().items()
        if source not in ELSEWHERE and not (TESTS / test).is_file()
    ]
    assert not missing, "\n".join(missing)


def test_what_is_tested_elsewhere_is_a_true_list():
    for source, test in ELSEWHERE.items():
        assert (PACKAGE / source).is_file(), f"{source}: no such source file any more; take it off the list"
        assert not (TESTS / expected()[source]).is_file(), f"{source}: has a test file of its own; take it off the list"
        assert (TESTS / test).is_file(), f"{source}: expected its tests in tests/{test}, got no such file"
        assert source.rpartition("/")[2].removesuffix(".py").strip("_") in (TESTS / test).read_text(), (source, test)


def test_no_test_file_is_too_long():
    lengths = {path: len(path.read_text().splitlines()) for path in TESTS.rglob("*.py")}
    too_long = [f"{path.relative_to(REPOSITORY)}: {n} lines" for path, n in lengths.items() if n > LONGEST]
    assert not too_long, f"expected at most {LONGEST} lines: {'; '.join(too_long)}"
