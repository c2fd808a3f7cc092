"""Small networks of the kinds that people build: strict export, equal bytes on every path, again after loading."""

import pytest

import keras_dbq
from tests import zoo

SCHEMES = {
    "DBQ 1": lambda: keras_dbq.DBQScheme(branches=1),
    "DBQ 2": lambda: keras_dbq.DBQScheme(branches=2),
    "FAT": lambda: keras_dbq.FATScheme(),
}


def test_nothing_stands_in_the_way_of_any_network():
    refused = {name: found.sentence() for name, build in zoo.NETWORKS.items() if (found := keras_dbq.check(build()))}
    assert not refused


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_network(name, scheme, tmp_path):
    zoo.examine(zoo.NETWORKS[name](), SCHEMES[scheme](), tmp_path / "model.keras")
