"""The charts of the page, as SVG text; matplotlib draws them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_dbq.quantizers import TernaryWeights
from keras_dbq.reporting.errors import Error

_ROW_INCHES = 0.22
_WIDTH = 7.5
_STAIRCASES = 4  # channels


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


def ternary(name: str, weights: TernaryWeights) -> str:
    """Staircases of the first channels of a layer, and how many weights each level has."""
    figure, (left, right) = _plots().subplots(1, 2, figsize=(_WIDTH, 3), layout="constrained")
    for channel in range(min(_STAIRCASES, weights.scales.shape[1])):
        left.plot(*staircase(weights.scales[:, channel], weights.thresholds[:, channel]))
    left.set(title="staircases of the first channels", xlabel="float weight", ylabel="quantized weight")
    right.bar(*level_shares(weights.codes))
    right.set(title="weights by their codes", ylabel="share")
    return _svg(figure, name)


def staircase(scales: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of one channel's staircase, float weight -> quantized weight.

    Args:
      scales: float [B].  thresholds: float [3**B - 1], ascending; infinite where a level is never reached.

    Returns:
      x, y, float [2 * levels that are reached], a little beyond the outer thresholds.
    """
    codes = np.stack(np.meshgrid(*[[-1, 0, 1]] * len(scales), indexing="ij"), -1).reshape(-1, len(scales))
    levels = np.sort(codes @ scales)
    finite = np.isfinite(thresholds)
    reach = 1.5 * max(np.abs(thresholds[finite]).max(), np.abs(levels).max())
    first, last = np.flatnonzero(finite)[[0, -1]]
    corners = np.repeat(thresholds[first : last + 1], 2)
    return np.concatenate([[-reach], corners, [reach]]), np.repeat(levels[first : last + 2], 2)


def level_shares(codes: np.ndarray) -> tuple[list[str], np.ndarray]:
    """(names such as "+0", share of weights) of all codes [B, ...], from all -1 to all +1."""
    branches = len(codes)
    index = np.tensordot(3 ** np.arange(branches)[::-1], codes.astype(int) + 1, 1).ravel()
    names = ["".join("-0+"[number // 3**b % 3] for b in reversed(range(branches))) for number in range(3**branches)]
    return names, np.bincount(index, minlength=3**branches) / index.size


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
