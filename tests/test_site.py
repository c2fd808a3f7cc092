"""The site: every public name stands in the API, every page in the navigation, links lead somewhere, figures are the
README's. (`make docs` builds it, and ends with an error on any warning.)
"""

import re

import pytest
import tf_keras as keras

import keras_dbq
from keras_dbq.network import roles
from tests.api.interface import _members
from tests.conftest import REPOSITORY
from tools import api_pages, results_picture, site

DOCS = REPOSITORY / "docs"
API = {path.stem: path.read_text() for path in (DOCS / "api").glob("*.md")}
NAVIGATION = set(re.findall(r": ([\w/]+\.md)$", (REPOSITORY / "mkdocs.yml").read_text(), re.MULTILINE))


def test_every_public_name_stands_in_the_api_once():
    asked = [name for text in API.values() for name in api_pages.REQUEST.findall(text)]
    assert sorted(asked) == sorted(keras_dbq.__all__)


@pytest.mark.parametrize("name", keras_dbq.__all__)
def test_a_request_leads_to_the_definition(name):
    lines = re.findall(r"^::: ([\w.]+)$", api_pages.expanded(f"::: keras_dbq.{name}"), re.MULTILINE)
    value = getattr(keras_dbq, name)
    if not hasattr(value, "__path__") and not hasattr(value, "__spec__"):
        assert lines == [f"{value.__module__}.{value.__qualname__}"]
        return
    assert lines[0] == value.__name__
    shown = {line.rpartition(".")[2] for line in lines[1:]}
    there = {member: getattr(value, member) for member in _members(value)}
    defined = {
        member for member, it in there.items() if getattr(it, "__name__", "") == member
    }  # no constants, no aliases
    assert defined and not defined - shown - set(keras_dbq.__all__)


def test_every_page_is_in_the_navigation():
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    mounted = {page for page in site.MOUNTED if page.endswith(".md")}
    assert pages | mounted == NAVIGATION and not pages & mounted


def test_links_between_files_become_links_between_pages():
    assert site.relinked("[a](docs/start.md) [b](examples/vww/README.md#results)", "index.md") == (
        "[a](start.md) [b](examples/vww.md#results)"
    )
    assert site.relinked("[a](../../examples/vww/README.md)", "guides/dbq.md") == "[a](../examples/vww.md)"
    assert site.relinked("[a](../../docs/quantization.md#9)", "examples/two_step.md") == "[a](../quantization.md#9)"
    assert site.relinked("[a](https://x.org/y) [b](#c)", "start.md") == "[a](https://x.org/y) [b](#c)"


@pytest.mark.parametrize(
    "path", sorted(REPOSITORY.glob("*.md")) + sorted(DOCS.rglob("*.md")), ids=lambda path: path.name
)
def test_links_lead_to_files(path):
    for link in site.LINK.findall(re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)):
        assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_pages_that_load_from_the_network_are_refused():
    class Page:
        class file:  # noqa: N801
            src_uri = "x.md"

    for good in ('<a href="https://x.org">', '<script src="../x.js">', '<img src="images/results.svg">'):
        assert site.on_post_page(good, Page, None) == good
    for bad in (
        '<script src="https://x.org/a.js">',
        '<link rel=stylesheet href="//x.org/a.css">',
        "<img src=http://x/y>",
    ):
        with pytest.raises(ValueError, match=r"x\.md: expected a page that loads nothing from the network"):
            site.on_post_page(bad, Page, None)


def test_the_picture_shows_the_figures_of_the_table():
    drawn = results_picture.PICTURE.read_text()
    assert len(drawn) < 100 * 1024
    for network in results_picture.networks():
        assert network.bytes[0] > network.bytes[1] > network.bytes[2] and network.title in drawn
        figures = [f"{size / 1000:,.0f} kB" for size in network.bytes] + [f"{network.times[2]:g}"]
        figures += [f"{value:.2f} %" for value in network.accuracies]
        assert not [figure for figure in figures if f">{figure}<" not in drawn]


def layers_of_support(heading: str) -> set[str]:
    """Layer types in the first column of the tables behind some words of the page."""
    text = (DOCS / "support.md").read_text()
    part = text[text.index(heading) :].split("\n\n")[1]
    return {name for line in part.splitlines()[2:] for name in re.findall(r"`([A-Z]\w+)`", line.split("|")[1])}


def test_the_support_matrix_is_that_of_the_code():
    whole, floating = layers_of_support("Every layer below becomes integers"), layers_of_support("no integer form")
    assert len(whole) > 40 and len(floating) > 5
    assert not [name for name in whole | floating if not hasattr(keras.layers, name)]
    known = {cls.__name__ for types in roles._BY_TYPE.values() for cls in types}
    assert not known - whole, f"docs/support.md: expected rows for {sorted(known - whole)}"
    assert not known & floating and set(roles._ADVICE) - {"Masking"} <= floating
