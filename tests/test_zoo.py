"""Small networks of the kinds that people build: strict export, equal bytes on every path, again after loading."""

import pytest

import keras_dbq
from tests import zoo

SCHEMES = {
    "DBQ 1": lambda: keras_dbq.DBQScheme(branches=1),
    "DBQ 2": lambda: keras_dbq.DBQScheme(branches=2),
    "FAT": lambda: keras_dbq.FATScheme(),
}


@pytest.mark.slow
def test_nothing_stands_in_the_way_of_any_network():
    refused = {name: found.sentence() for name, build in zoo.NETWORKS.items() if (found := keras_dbq.check(build()))}
    assert not refused


def cases():
    """Every network under every scheme: one of the three is a slow test, in turns, the others belong to the survey."""
    for number, name in enumerate(zoo.NETWORKS):
        for turn, scheme in enumerate(SCHEMES):
            mark = pytest.mark.slow if (number + turn) % 3 == 0 else pytest.mark.survey
            yield pytest.param(name, scheme, marks=mark, id=f"{name}-{scheme}")


@pytest.mark.parametrize("name, scheme", cases())
def test_network(name, scheme, tmp_path):
    zoo.examine(zoo.NETWORKS[name](), SCHEMES[scheme](), tmp_path / "model.keras")
