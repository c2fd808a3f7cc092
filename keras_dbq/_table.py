"""A small table: rows that print aligned, and stay readable by programs."""

from collections.abc import Iterator
from typing import Any


class Table:
    """Rows under named columns.

    Args:
      columns: names.  title: first printed line.  total: columns that get a sum in the last printed row.
    """

    def __init__(self, columns: list[str], title: str = "", total: list[str] | None = None):
        self.columns = columns
        self.title = title
        self.total = total or []
        self.rows: list[dict[str, Any]] = []

    def add(self, *values: Any) -> None:
        """Appends a row; values in the order of the columns."""
        self.rows.append(dict(zip(self.columns, values, strict=True)))

    def column(self, name: str) -> list[Any]:
        """All values of one column."""
        return [row[name] for row in self.rows]

    def totals(self) -> dict[str, Any]:
        """{column: sum} of the columns to be summed."""
        return {name: sum(self.column(name)) for name in self.total}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        cells = [[_text(row[name]) for name in self.columns] for row in self.rows]
        if self.total:
            sums = self.totals()
            cells.append(
                [_text(sums[n]) if n in sums else ("total" if i == 0 else "") for i, n in enumerate(self.columns)]
            )
        widths = [max(len(line[i]) for line in [self.columns, *cells]) for i in range(len(self.columns))]
        numeric = [bool(self.rows) and all(isinstance(v, (int, float)) for v in self.column(n)) for n in self.columns]

        def line(values: list[str]) -> str:
            parts = [v.rjust(w) if right else v.ljust(w) for v, w, right in zip(values, widths, numeric, strict=True)]
            return "  ".join(parts).rstrip()

        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        return "\n".join([*([self.title] if self.title else []), line(self.columns), rule, *map(line, cells)])


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
