"""The page's HTML: everything is escaped, nothing comes from a network."""

from html.parser import HTMLParser

from keras_dbq._table import Table
from keras_dbq.reporting.page import Page


class Balanced(HTMLParser):
    """Fails on a tag that is closed out of order."""

    VOID = {"meta", "br"}

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_names_of_users_are_no_html():
    page = Page("a <b> & c")
    page.heading("1 < 2", "x > y")
    page.text("<script>alert(1)</script>", good=False)
    page.facts([("<i>", '"quoted"')])
    table = Table(["na<me", "count"])
    table.add("<td>", 12345)
    page.table(table)
    page.svg("<svg></svg>")
    page.chosen({'layer"<1>': "<svg></svg>"}, "lay<er")
    html = page.html()
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    assert html.count("<script>") == 1 and "alert" in html and "12,345" in html
    for text in ("a &lt;b&gt; &amp; c", "1 &lt; 2", "na&lt;me", "layer&quot;&lt;1&gt;", "lay&lt;er"):
        assert text in html
    assert "http" not in html and "src=" not in html
