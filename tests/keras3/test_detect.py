"""Models and files of Keras 3 are told apart; Keras 3 is imported only where a user has done so, or gives a file."""

import ast

import pytest

from keras_dbq.compat import keras
from keras_dbq.keras3 import detect
from keras_dbq.keras3.missing import NoCounterpart
from tests import nets
from tests.conftest import REPOSITORY
from tests.keras3.networks import L, keras_3


def small():
    return keras_3.Sequential([keras_3.Input((4,)), L.Dense(2, name="d")])


class Own(keras_3.Model):
    def call(self, x):
        return x


class Named(keras_3.Model):
    """A subclass that only builds its graph."""

    def __init__(self):
        inputs = keras_3.Input((4,))
        super().__init__(inputs, L.Dense(2)(inputs))


def test_models():
    assert all(detect.is_keras3(model) for model in (small(), Own(), Named()))
    assert not any(
        detect.is_keras3(value) for value in (nets.sequential(), L.Dense(2), keras.layers.Dense(2), None, "m")
    )
    assert detect.is_builtin(L.Dense(2)) and not detect.is_builtin(Own())


def test_functions_of_models():
    assert [node.operation.name for node in detect.nodes(detect.function_of(small()))] == ["d"]
    assert len(detect.nodes(detect.function_of(Named()))) == 1
    for model, why in ((Own(), "its call is Python code"), (keras_3.Sequential([L.Dense(2)]), "has not been built")):
        with pytest.raises(NoCounterpart, match=why):
            detect.function_of(model)


def test_files(tmp_path):
    for name in ("new.keras", "new.h5"):
        small().save(tmp_path / name)
        assert detect.file_version(tmp_path / name) == keras_3.__version__ and detect.is_keras3_file(tmp_path / name)
    for name in ("old.keras", "old.h5"):
        nets.sequential().save(tmp_path / name)
        assert detect.file_version(tmp_path / name) == keras.__version__ and not detect.is_keras3_file(tmp_path / name)
    nets.sequential().save(tmp_path / "folder")
    (tmp_path / "text.keras").write_text("no model")
    assert not detect.is_keras3_file(tmp_path / "folder") and detect.file_version(tmp_path / "text.keras") == ""


def test_keras_3_is_imported_inside_of_functions_only():
    for path in (REPOSITORY / "keras_dbq").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            assert not (isinstance(node, ast.Import) and any(a.name.split(".")[0] == "keras" for a in node.names)), path
            assert not (isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "keras"), path
