"""Plots of what a DBQ model has learnt: staircases and histograms of levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")  # no screen needed
import matplotlib.pyplot as plt  # noqa: E402

import keras_dbq  # noqa: E402
from keras_dbq.inspection.staircases import level_shares, staircase  # noqa: E402


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
    figure, panels = _panels(layers, "Weights by their codes, the last branch fastest")
    for layer, panel in zip(layers, panels, strict=False):
        panel.bar(*level_shares(keras_dbq.get_ternary_weights(layer).codes))
        panel.set(title=layer.name, xlabel="code", ylabel="share of weights")
    return _save(figure, path)
