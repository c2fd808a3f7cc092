"""Plots of what a DBQ model has learnt: staircases and histograms of levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")  # no screen needed
import matplotlib.pyplot as plt  # noqa: E402

import keras_dbq  # noqa: E402


def ternary_layers(q_model: Any) -> list[Any]:
    """The layers of a quantized model that have ternary weights."""
    found = []
    for layer in q_model.layers:
        try:
            keras_dbq.get_ternary_weights(layer)
        except ValueError:
            continue
        found.append(layer)
    return found


def staircase(scales: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of one channel's staircase: float weight -> quantized weight.

    Args:
      scales: float [B], one per branch.  thresholds: float [3**B - 1], ascending.
    Returns:
      x, y, float [2 * 3**B]: the line through these points is the staircase, a little beyond the outer thresholds.
    """
    codes = np.stack(np.meshgrid(*[[-1, 0, 1]] * len(scales), indexing="ij"), -1).reshape(-1, len(scales))
    levels = np.sort(codes @ scales)
    reach = 1.5 * max(np.abs(thresholds).max(), np.abs(levels).max())
    edges = np.concatenate([[-reach], np.repeat(thresholds, 2), [reach]])
    return edges, np.repeat(levels, 2)


def write_all(q_model: Any, out: Path) -> list[Path]:
    """Writes staircases.png and levels.png into `out`; returns their paths."""
    layers = ternary_layers(q_model)
    chosen = [layers[i] for i in np.unique(np.linspace(0, len(layers) - 1, 6).astype(int))]
    return [_staircases(chosen, out / "staircases.png"), _levels(chosen, out / "levels.png")]


def _panels(layers: list[Any], title: str) -> tuple[Any, list[Any]]:
    figure, axes = plt.subplots(-(-len(layers) // 3), 3, figsize=(12, 3.2 * -(-len(layers) // 3)), squeeze=False)
    figure.suptitle(title)
    for panel in axes.flat[len(layers) :]:
        panel.set_axis_off()
    return figure, list(axes.flat)


def _save(figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _staircases(layers: list[Any], path: Path, channels: int = 4) -> Path:
    figure, panels = _panels(layers, f"Learnt staircases, first {channels} output channels")
    for layer, panel in zip(layers, panels, strict=False):
        ternary = keras_dbq.get_ternary_weights(layer)
        for channel in range(min(channels, ternary.scales.shape[1])):
            panel.plot(*staircase(ternary.scales[:, channel], ternary.thresholds[:, channel]))
        panel.set(title=layer.name, xlabel="float weight", ylabel="quantized weight")
    return _save(figure, path)


def _levels(layers: list[Any], path: Path) -> Path:
    figure, panels = _panels(layers, "Weights per code, branches read as digits of a balanced base-3 number")
    for layer, panel in zip(layers, panels, strict=False):
        codes = keras_dbq.get_ternary_weights(layer).codes
        digits = 3 ** np.arange(len(codes))[::-1]
        index = np.tensordot(digits, codes.astype(int) + 1, 1).ravel()
        count = 3 ** len(codes)
        panel.bar(np.arange(count) - count // 2, np.bincount(index, minlength=count) / index.size)
        panel.set(title=layer.name, xlabel="code", ylabel="share of weights")
    return _save(figure, path)
