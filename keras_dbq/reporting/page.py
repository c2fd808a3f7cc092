"""The page: one HTML file that needs no network, readable on a phone and on paper."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from keras_dbq._table import Table

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 0 1rem 3rem; color: #1b1b1b; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; border-bottom: 1px solid #ccc; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; }
th, td { padding: .15rem .6rem .15rem 0; text-align: left; white-space: nowrap; vertical-align: top; }
td.n { text-align: right; font-variant-numeric: tabular-nums; } tr:nth-child(even) td { background: #f5f5f5; }
.facts td { white-space: normal; overflow-wrap: anywhere; } .facts td:first-child { min-width: 7rem; }
svg { max-width: 100%; min-width: min(38rem, 100%); height: auto; }
.good { color: #0a6b2d; } .bad { color: #b00020; font-weight: 600; }
select { font-size: 1rem; max-width: 100%; } figure { margin: .5rem 0; overflow-x: auto; }
@media (max-width: 40rem) { svg { max-width: none; min-width: 38rem; } } /* a phone: legible, moved sideways */
@media print { .scroll, figure { overflow: visible; } table { font-size: 7pt; } svg { min-width: 0; max-width: 100%; }
  th, td { white-space: normal; overflow-wrap: anywhere; }
  select { display: none; } h2 { break-after: avoid; } figure, svg { break-inside: avoid; } }
"""
_SCRIPT = """
for (const select of document.querySelectorAll("select")) {
  const show = () => {
    for (const figure of select.closest("div").querySelectorAll("figure"))
      figure.hidden = figure.dataset.layer !== select.value;
  };
  select.addEventListener("change", show);
  show();
}
"""


class Page:
    """HTML in the order in which it is added.

    Args:
      title: plain text.
    """

    def __init__(self, title: str):
        self.title = title
        self._parts: list[str] = []

    def heading(self, text: str, explanation: str = "") -> None:
        """Begins a section."""
        self._parts.append(f"<h2>{escape(text)}</h2>" + (f"<p>{escape(explanation)}</p>" if explanation else ""))

    def text(self, text: str, good: bool | None = None) -> None:
        """A paragraph; good or bad news in colour."""
        style = "" if good is None else f' class="{"good" if good else "bad"}"'
        self._parts.append(f"<p{style}>{escape(text)}</p>")

    def svg(self, drawn: str) -> None:
        """A chart."""
        self._parts.append(f"<figure>{drawn}</figure>")

    def chosen(self, drawn: dict[str, str], label: str) -> None:
        """Charts of which a list shows one at a time."""
        options = "".join(f'<option value="{escape(name)}">{escape(name)}</option>' for name in drawn)
        figures = "".join(
            f'<figure data-layer="{escape(name)}"><figcaption>{escape(name)}</figcaption>{svg}</figure>'
            for name, svg in drawn.items()
        )
        self._parts.append(f"<div><label>{escape(label)} <select>{options}</select></label><div>{figures}</div></div>")

    def table(self, table: Table) -> None:
        """Rows under their columns."""
        head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
        rows = "".join(f"<tr>{''.join(_cell(row[name]) for name in table.columns)}</tr>" for row in table)
        self._parts.append(f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>')

    def facts(self, rows: Sequence[tuple[str, str]]) -> None:
        """Names and values."""
        cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
        self._parts.append(f'<table class="facts">{cells}</table>')

    def html(self) -> str:
        """The whole file."""
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.title)}</title><style>{_STYLE}</style></head>"
            f"<body><h1>{escape(self.title)}</h1>{''.join(self._parts)}<script>{_SCRIPT}</script></body></html>\n"
        )


def _cell(value: object) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    shown = f"{value:,}" if isinstance(value, int) and number else f"{value:.4g}" if number else str(value)
    return f"<td{' class=n' if number else ''}>{escape(shown)}</td>"
