"""Shared test set-up: legacy Keras, the switch for slow tests, and fixtures for the real data.

The real data (see `data_dir`) is no part of this repository: tests that need it skip, and say so, where it is absent.
"""

from __future__ import annotations

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SLOW_TESTS = Path(__file__).with_name("slow_tests.txt")
# For `examples`. Behind everything else: `pytest` tests the installed keras_dbq, `python -m pytest` the source tree.
sys.path.append(str(REPOSITORY))


# Programs that tests start import the same keras_dbq as the tests: the installed one for `pytest` (a safe path leaves
# the current folder out), the source tree for `python -m pytest`.
_package = importlib.util.find_spec("keras_dbq")
if _package is not None and Path(str(_package.origin)).parent == REPOSITORY / "keras_dbq":
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
else:
    os.environ["PYTHONSAFEPATH"] = "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves tests marked slow or survey out, unless --run-slow or a marker expression (-m) asks for them.

    The names in slow_tests.txt are marked slow here.
    """
    listed = {line for line in SLOW_TESTS.read_text().splitlines() if not line.startswith("#")}
    for item in items:
        if item.nodeid in listed:
            item.add_marker(pytest.mark.slow)
    asked = config.getoption("-m") or ""
    left_out = {mark for mark in ("slow", "survey") if mark not in asked}
    if config.getoption("--run-slow"):
        left_out.discard("slow")
    out = [item for item in items if any(item.get_closest_marker(mark) for mark in left_out)]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real data: $KERAS_DBQ_DATA, else ../shared/data beside the repository; skips if absent."""
    named = os.environ.get("KERAS_DBQ_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not (folder / "load_data.py").is_file():
        pytest.skip(f"real data: expected load_data.py in {folder}, got nothing; set KERAS_DBQ_DATA to the data folder")
    return folder


@pytest.fixture(scope="session")
def weights_dir(data_dir: Path) -> Path:
    """Folder of the pretrained weights, inside `data_dir`."""
    return data_dir / "weights"


@pytest.fixture(scope="session")
def load_data(data_dir: Path) -> ModuleType:
    """The data folder's own loader module: `cifar10(path)` and `jpeg_set(path, limit)`."""
    spec = importlib.util.spec_from_file_location("keras_dbq_test_load_data", data_dir / "load_data.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def cifar10(
    data_dir: Path, load_data: ModuleType
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(x_train, y_train), (x_test, y_test): all of CIFAR-10, uint8 [N, 32, 32, 3] RGB; decoding takes about 12 s."""
    return load_data.cifar10(data_dir / "cifar10.npz")


@pytest.fixture(scope="session")
def cifar10_test_part(data_dir: Path, load_data: ModuleType) -> tuple[np.ndarray, np.ndarray]:
    """(images uint8 [10000, 32, 32, 3], labels [10000]): the CIFAR-10 test set alone; decoding takes about 2 s."""
    import lzma

    stored = np.load(data_dir / "cifar10.npz")
    residual = np.frombuffer(lzma.decompress(stored["residual_5"].tobytes()), np.uint8)
    return load_data._undo_prediction(residual.reshape(3, 10000, 32, 32)), stored["y_test"]


@pytest.fixture(scope="session")
def vww_photos(data_dir: Path, load_data: ModuleType) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(images uint8 [1000, 96, 96, 3], fields): COCO photos; fields `label` and `label_mlperf` (-1: not usable)."""
    return load_data.jpeg_set(data_dir / "vww_coco_96.npz")


@pytest.fixture(scope="session")
def imagenet_photos(data_dir: Path, load_data: ModuleType) -> tuple[np.ndarray, np.ndarray]:
    """(images uint8 [100, 224, 224, 3], labels [100]): the first ImageNet validation pictures (0..999, sorted WNID)."""
    images, fields = load_data.jpeg_set(data_dir / "imagenet_val_first1000_224.npz", limit=100)
    return images, fields["label"]


@pytest.fixture(autouse=True)
def _free_graphs(request: pytest.FixtureRequest):
    """Drops Keras' global graphs after each test of the Keras side: hundreds of models would slow the later ones."""
    yield
    keras = sys.modules.get("tf_keras")
    if keras is not None and "tflite_ops" not in request.path.parts:
        keras.backend.clear_session()
