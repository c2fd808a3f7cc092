"""The one progress bar."""

import pytest

import keras_dbq
from keras_dbq import _progress
from keras_dbq.compat import keras
from tests import nets


def test_a_bar_moves_one_unit_an_item(capsys):
    assert list(_progress.over([1, 2, 3], "counting", "number", True)) == [1, 2, 3]
    text = capsys.readouterr().out
    assert text.startswith("counting\n") and "3/3" in text


@pytest.mark.parametrize("asked, items", [(False, [1, 2]), (None, [1, 2]), (True, [])])
def test_nothing_is_shown_unasked_for_a_file_and_for_no_items(capsys, asked, items):
    assert list(_progress.over(items, "counting", "number", asked)) == items
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_one(monkeypatch):
    monkeypatch.setattr(_progress.sys.stdout, "isatty", lambda: True, raising=False)
    assert _progress.is_shown(None) and not _progress.is_shown(False)


def test_quantizing_and_exporting_show_their_layers(capsys, monkeypatch):
    model = keras.Sequential([keras.Input(nets.SHAPE), keras.layers.Conv2D(4, 3), keras.layers.Conv2D(4, 1)])
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(), nets.pictures(), verbose=True)
    assert "weights of 2 layers" in capsys.readouterr().out
    monkeypatch.setattr(_progress, "is_shown", lambda asked: True)
    keras_dbq.export_tflite(q_model, None)
    assert "export: weights of 2 layers" in capsys.readouterr().out
