"""The picture of the README: bytes, time and accuracy of two networks as float, as int8 and packed.

    python -m tools.results_picture     # writes docs/images/results.svg

The figures are those of the README's own table of results, which says how they were measured; the bytes of the float
weights are four for each parameter of the networks.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "results.svg"
KINDS = ("float", "int8, stock", "packed")
_COLOURS = ("#9aa5b1", "#5b8db8", "#00796b")


class Network(NamedTuple):
    """What is drawn of one network, float, int8 and packed. times: of the stock int8 file; None: not measured."""

    title: str
    bytes: tuple[int, int, int]
    times: tuple[float | None, float, float]
    accuracies: tuple[float, float, float]


def networks() -> list[Network]:
    """Both networks, from the README's table."""
    from keras_dbq import models

    resnet = models.resnet_cifar().count_params()
    mobilenet = models.mobilenet_v1((96, 96, 3), classes=2, alpha=0.25).count_params()
    return [
        _network("ResNet-20, CIFAR-10", "one branch", resnet),
        _network(
            "MobileNetV1 0.25, Visual Wake Words",
            "one branch, five small layers at 8 bit, dead channels filled",
            mobilenet,
        ),
    ]


def _network(title: str, weights: str, parameters: int) -> Network:
    """The row of these weights, of the network whose name begins the title."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table()]
    start = next(i for i, row in enumerate(rows) if row[0].startswith(f"[{title.split(',')[0]}"))
    row = next(row for row in rows[start:] if row[1] == weights)
    floats, packed = (float(cell.rstrip(" %")) for cell in row[2:4])
    packed_bytes, int8_bytes = (int(cell.replace(",", "")) for cell in row[4:6])
    return Network(
        title, (4 * parameters, int8_bytes, packed_bytes), (None, 1.0, float(row[6])), (floats, packed, packed)
    )


def table() -> list[str]:
    """Lines of the README's first table of results, head and rule left out."""
    text = (ROOT / "README.md").read_text()
    block = re.search(r"^\| network, data \| weights \|.*?\n\n", text, re.DOTALL | re.MULTILINE)
    assert block is not None, "README.md: expected a table that begins with 'network, data | weights', got none"
    return block[0].strip().splitlines()[2:]


def draw(drawn: list[Network]) -> Any:
    """The figure: a row for each network."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plots

    figure, axes = plots.subplots(
        len(drawn), 3, figsize=(9, 1.75 * len(drawn)), layout="constrained", facecolor="white"
    )
    figure.get_layout_engine().set(hspace=0.12)
    for (left, middle, right), network in zip(axes, drawn, strict=True):
        left.set_title(network.title, loc="left", fontsize=10, fontweight="bold")
        _bars(left, network.bytes, [f"{size / 1000:,.0f} kB" for size in network.bytes], "size")
        ratios = ["not measured" if time is None else f"{time:g}" for time in network.times]
        _bars(middle, [time or 0 for time in network.times], ratios, "time for one picture, int8 = 1")
        _bars(right, network.accuracies, [f"{value:.2f} %" for value in network.accuracies], "accuracy")
        middle.set_yticks([])
        right.set_yticks([])
    return figure


def _bars(axes: Any, values: Any, labels: list[str], what: str) -> None:
    axes.barh(range(len(values)), values, color=_COLOURS)
    for place, (value, label) in enumerate(zip(values, labels, strict=True)):
        axes.text(value + 0.03 * max(values), place, label, va="center", fontsize=9)
    axes.set(xlim=(0, 1.35 * max(values)), ylim=(len(values) - 0.4, -0.6), xticks=[])
    axes.set_yticks(range(len(KINDS)), KINDS, fontsize=9)
    axes.set_xlabel(what, fontsize=9)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(length=0)


def main() -> None:
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "results", "font.family": "sans-serif"}):
        draw(networks()).savefig(PICTURE, metadata={"Date": None})
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
