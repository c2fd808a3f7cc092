"""The charts of the page, as SVG text; matplotlib draws them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from keras_dbq.inspection.staircases import draw, draw_linear
from keras_dbq.quantizers import IntegerWeights, TernaryWeights
from keras_dbq.reporting.errors import Error

_ROW_INCHES = 0.22
_WIDTH = 7.5


def bytes_by_layer(names: Sequence[str], sizes: Sequence[int], kinds: Sequence[str]) -> str:
    """A bar for each row of the file, coloured by kind (encoding, or "other")."""
    figure, axes = _rows(len(names))
    colours = {kind: f"C{i}" for i, kind in enumerate(sorted(set(kinds)))}
    axes.barh(range(len(names)), sizes, color=[colours[kind] for kind in kinds])
    axes.legend(_patches(colours), list(colours), loc="lower right")
    _label_rows(axes, names, "bytes in the file")
    return _svg(figure, "bytes")


def signal_to_noise(weights: Sequence[Error], activations: Sequence[Error]) -> str:
    """Weights and activations by layer, in dB."""
    names = list(dict.fromkeys([e.name for e in weights] + [e.name for e in activations]))
    figure, axes = _rows(len(names))
    for errors, marker, label in ((weights, "s", "weights"), (activations, "o", "activations")):
        places = [names.index(e.name) for e in errors]
        axes.plot([e.snr for e in errors], places, marker, label=label, markersize=4)
    axes.legend(loc="best")
    _label_rows(axes, names, "signal to noise, dB (more is better)")
    return _svg(figure, "noise")


def costs(by_layer: dict[str, float]) -> str:
    """What each layer's weights cost (`errors.weight_costs`)."""
    figure, axes = _rows(len(by_layer))
    axes.barh(range(len(by_layer)), [100 * value for value in by_layer.values()])
    _label_rows(
        axes, list(by_layer), "distance from the float answers with this layer alone quantized, % of their spread"
    )
    return _svg(figure, "costs")


def times(names: Sequence[str], microseconds: Sequence[float]) -> str:
    """Time by step of a run."""
    figure, axes = _rows(len(names))
    axes.barh(range(len(names)), microseconds)
    _label_rows(axes, names, "us")
    return _svg(figure, "times")


def staircases(name: str, weights: TernaryWeights | IntegerWeights) -> str:
    """Staircases of the first channels of a layer, and how many weights each level has."""
    figure, (left, right) = _plots().subplots(1, 2, figsize=(_WIDTH, 3), layout="constrained")
    if isinstance(weights, TernaryWeights):
        draw(left, right, weights)
    else:
        draw_linear(left, right, weights)
    return _svg(figure, name)


def _plots() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("report: expected the package matplotlib; run: pip install matplotlib") from error
    matplotlib.use("Agg")  # no screen needed
    import matplotlib.pyplot as plots

    return plots


def _rows(count: int) -> tuple[Any, Any]:
    """A figure that has room for so many rows."""
    figure, axes = _plots().subplots(figsize=(_WIDTH, 0.9 + _ROW_INCHES * max(count, 2)), layout="constrained")
    axes.margins(y=0.01)
    return figure, axes


def _label_rows(axes: Any, names: Sequence[str], what: str) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_ylim(len(names) - 0.4, -0.6)  # the first on top
    axes.set_xlabel(what)
    axes.grid(axis="x", alpha=0.3)


def _patches(colours: dict[str, str]) -> list[Any]:
    from matplotlib.patches import Patch

    return [Patch(color=colour) for colour in colours.values()]


def _svg(figure: Any, salt: str) -> str:
    """The figure as an <svg> element; ids in it are its own (`salt`), because many stand in one page."""
    plots, text = _plots(), io.StringIO()
    with plots.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    plots.close(figure)
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]
