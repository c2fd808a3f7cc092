"""A test file for every source file, in the same tree, and none so long that nobody reads it."""

from tests.conftest import REPOSITORY, SLOW_TESTS

PACKAGE, TESTS = REPOSITORY / "keras_dbq", REPOSITORY / "tests"
LONGEST = 400

# Source files whose tests stand elsewhere, and where: small parts that are tested through what is made of them.
ELSEWHERE = {
    "__main__.py": "command/test_command.py",
    "_stand_ins.py": "wrapping/test_serialization.py",
    "command/outcome.py": "command/test_files.py",
    "command/picture_flags.py": "command/test_compare.py",
    "compat.py": "test_quantize.py",
    "datasets/arrays.py": "datasets/test_images.py",
    "datasets/stream.py": "datasets/test_streams.py",
    "inspection/profile.py": "inspection/test_inspection.py",
    "inspection/tables.py": "inspection/test_inspection.py",
    "inspection/weights.py": "inspection/test_inspection.py",
    "models/blocks.py": "models/test_models.py",
    "models/mnasnet.py": "models/test_more_models.py",
    "models/mobilenet.py": "models/test_models.py",
    "models/pretrained.py": "models/test_models.py",
    "models/resnet.py": "models/test_models.py",
    "models/shufflenet.py": "models/test_more_models.py",
    "models/vgg.py": "models/test_more_models.py",
    "ops/replicas.py": "training/test_distributed.py",
    "prepare/result.py": "prepare/test_filling.py",
    "quantizers/base.py": "quantizers/test_options.py",
    "quantizers/linear.py": "schemes/test_fat.py",
    "quantizers/ranges.py": "quantizers/test_trained_thresholds.py",
    "reference/ops_activation.py": "reference/test_ops.py",
    "reference/ops_conv.py": "reference/test_ops.py",
    "reference/ops_elementwise.py": "reference/test_ops.py",
    "reference/ops_pool.py": "reference/test_ops.py",
    "reference/ops_shape.py": "reference/test_ops.py",
    "reference/tflite_file.py": "reference/test_engine.py",
    "structure/node.py": "structure/test_graph.py",
    "structure/schema.py": "structure/test_reader.py",
    "schemes/rewriting.py": "schemes/test_rewrite.py",
    "wrapping/lookup.py": "inspection/test_inspection.py",
    "wrapping/naming.py": "export/test_grids.py",
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
        own, known = expected()[source], (PACKAGE / source).is_file() and (TESTS / test).is_file()
        assert known, f"{source}: expected it and tests/{test} to exist; mend the list"
        assert own == test or not (TESTS / own).is_file(), f"{source}: has tests/{own}; take it off the list"


def test_no_test_file_is_too_long():
    lengths = {path: len(path.read_text().splitlines()) for path in TESTS.rglob("*.py")}
    too_long = [f"{path.relative_to(REPOSITORY)}: {n} lines" for path, n in lengths.items() if n > LONGEST]
    assert not too_long, f"expected at most {LONGEST} lines: {'; '.join(too_long)}"


def test_every_name_in_the_list_of_slow_tests_exists():
    """Files and functions; a renamed test would silently be a fast one."""
    for line in SLOW_TESTS.read_text().splitlines():
        if not line.startswith("#"):
            path, _, name = line.partition("::")
            function = name.partition("[")[0]
            assert f"def {function}(" in (REPOSITORY / path).read_text(), line
