"""The table: rows for programs, aligned text for people."""

import pytest

from keras_dbq._table import Table


def filled() -> Table:
    table = Table(["layer", "bytes", "error", "dead"], "sizes", total=["bytes"])
    table.add("conv", 1234567, 0.123456, True)
    table.add("head", 8, 2.0, False)
    return table


def test_rows_columns_and_sums():
    table = filled()
    assert len(table) == 2 and [row["layer"] for row in table] == table.column("layer") == ["conv", "head"]
    assert table.totals() == {"bytes": 1234575}
    with pytest.raises(ValueError):
        table.add("too", "few")
    with pytest.raises(KeyError):
        table.column("bits")


def test_text_is_aligned():
    assert str(filled()).splitlines() == [
        "sizes",
        "layer      bytes   error   dead",
        "-------------------------------",
        "conv   1,234,567  0.1235   True",
        "head           8       2  False",
        "total  1,234,575",
    ]


def test_an_empty_table_prints_its_columns():
    assert str(Table(["a", "bb"])) == "a  bb\n-----"
