"""keras_dbq.tflite.view: every field of a file is what the schema's own classes read."""

import numpy as np
import pytest

from keras_dbq.structure.reader import read
from keras_dbq.tflite.view import Tables, View
from tests.conftest import REPOSITORY
from tests.structure.files import CORPUS

FILES = sorted([*CORPUS.glob("*.tflite"), *(REPOSITORY / "tests" / "golden").rglob("*.tflite")])
UNIONS = ("options", "details", "options_2")
PLACES = ("data", "custom_options")  # of which the checking reader says where they are


def assert_same(view, table, data):
    """All fields of a table, and of those below it; the checking reader of `structure` has looked at each."""
    for name, expected in vars(table).items():
        if name in UNIONS:
            continue
        found = view.get(name)
        if name in PLACES and expected is not None:
            assert found == data[expected.start : expected.start + expected.length]
        elif isinstance(found, View):
            assert_same(found, expected, data)
        elif isinstance(found, Tables):
            assert len(found) == len(expected)
            for one, other in zip(found, expected, strict=True):
                assert_same(one, other, data)
        elif isinstance(found, bytes):
            assert found.decode() == expected
        elif isinstance(expected, np.ndarray):
            np.testing.assert_array_equal(found, expected)
        else:
            assert found == expected, name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_field(path):
    data = path.read_bytes()
    assert_same(View("Model", data), read(data), data)


def test_what_is_not_there():
    model = View("Model", FILES[0].read_bytes())
    graphs = model.get("subgraphs")
    with pytest.raises(KeyError):
        graphs[0].get("operators")[0].get("options")
    with pytest.raises(IndexError):
        graphs[1]
    assert model.get("external_groups") is None and graphs[0].get("debug") == -1
