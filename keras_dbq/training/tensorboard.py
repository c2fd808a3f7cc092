"""Scales, thresholds, zeros and flips of codes for TensorBoard, while `fit` trains."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_dbq import _checks
from keras_dbq.compat import keras, tf
from keras_dbq.inspection.staircases import draw
from keras_dbq.wrapping import wrappers

RUN = "quantization"  # folder inside of log_dir, beside Keras' own "train" and "validation"
_INCHES, _DOTS_PER_INCH = (7.5, 3.0), 80


class TensorBoardQuantization(keras.callbacks.Callback):
    """Writes what happens to every quantized layer, for TensorBoard.

    At the end of every `update_freq`-th epoch, with the epoch (from 0, as Keras' TensorBoard callback counts) as step,
    under the name of the user's layer:

    * ternary weights, j = 1..B, i = 1..3**B - 1: `LAYER/scale_branch_j` and `LAYER/threshold_i`, means over output
      channels in units of the float kernel; `LAYER/zeros_branch_j`, the share of zero codes;
    * linear weights: `LAYER/scale`, the mean weight of one integer step; `LAYER/threshold`, that of the largest
      integer; `LAYER/zeros`, the share of zeros;
    * both: `LAYER/flips`, how many weights have another code than when it was written last (at first: than when the
      first epoch began), in whatever branch; `LAYER/flip_ratio`, their share; a histogram `LAYER/scales` over channels;
    * ternary weights also: a histogram `LAYER/thresholds`, and a picture `LAYER/staircases`;
    * outputs: `LAYER/range_low` and `LAYER/range_high`, in units of the activation.

    Args:
      log_dir: folder; events go to its folder "quantization", so it can be that of Keras' TensorBoard callback.
      update_freq: epochs from one writing to the next.
      layers: names or glob patterns of layers (the user's names); None: all quantized ones.
      pictures: whether staircases are drawn (tenths of a second a layer).

    In a loop of your own: `keras_dbq.get_ternary_weights(layer)` has codes, scales and thresholds; count
    `(codes != codes_before).any(0).sum()`.

    Raises:
      ValueError: update_freq under 1; when `fit` begins: not a quantized model, or a name or pattern of no quantized
        layer.  TypeError: log_dir is no path, or pictures no bool.  ImportError: TensorBoard is missing.

    Example:
      q_model.fit(x, y, callbacks=[keras_dbq.callbacks.TensorBoardQuantization("logs")])   # tensorboard --logdir logs
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        update_freq: int = 1,
        layers: Iterable[str] | None = None,
        pictures: bool = True,
    ):
        super().__init__()
        self.log_dir = os.fspath(log_dir)
        self.update_freq = _checks.integer("update_freq", update_freq, 1, 2**31 - 1)
        self.layers = None if layers is None else [layers] if isinstance(layers, str) else list(layers)
        self.pictures = _checks.boolean("pictures", pictures)
        _check_tensorboard()
        self._codes: dict[str, np.ndarray] = {}
        self._writer: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        wrappers.check_quantized(self.model, "TensorBoardQuantization")
        self._weights()  # what is wrong with `layers` shows before anything is trained
        self._codes = {}
        self._writer = tf.summary.create_file_writer(str(Path(self.log_dir) / RUN))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if not self._codes:  # not when training begins: BackupAndRestore may put other weights there meanwhile
            self._codes = {name: _looked_at(weight).codes for name, weight in self._weights().items()}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if (epoch + 1) % self.update_freq:
            return
        with self._writer.as_default(step=epoch):
            for name, weight in self._weights().items():
                self._write_weights(name, weight)
            for name, output in self._outputs().items():
                low, high = output.quantizer.range(output.variables)
                tf.summary.scalar(f"{name}/range_low", low)
                tf.summary.scalar(f"{name}/range_high", high)
        self._writer.flush()

    def on_train_end(self, logs: Any = None) -> None:
        self._writer.close()

    def _write_weights(self, name: str, weight: wrappers.QuantizedWeight) -> None:
        found = _looked_at(weight)
        flips = int((found.codes != self._codes[name]).any(0).sum())
        self._codes[name] = found.codes
        numbers = {**found.numbers, "flips": flips, "flip_ratio": flips / found.codes[0].size}
        for what, value in numbers.items():
            tf.summary.scalar(f"{name}/{what}", value)
        for what, values in found.histograms.items():
            tf.summary.histogram(f"{name}/{what}", values)
        if self.pictures and weight.quantizer.branches:
            tf.summary.image(f"{name}/staircases", _picture(weight))

    def _weights(self) -> dict[str, wrappers.QuantizedWeight]:
        """{name: its first quantized weight} of the layers asked for that have one."""
        found = {wrappers.inner(layer).name: wrappers.quantized_weights(layer) for layer in self._layers()}
        return {name: weights[0] for name, weights in found.items() if weights}

    def _outputs(self) -> dict[str, wrappers.QuantizedTensor]:
        """The quantized outputs of the layers asked for."""
        outputs = (wrappers.quantized_output(layer) for layer in self._layers())
        return {output.layer_name: output for output in outputs if output is not None}

    def _layers(self) -> list[keras.layers.Layer]:
        every = [
            layer
            for layer in wrappers.all_layers(self.model)
            if wrappers.quantized_weights(layer) or wrappers.quantized_output(layer) is not None
        ]
        if self.layers is None:
            return every
        names = [wrappers.inner(layer).name for layer in every]
        for pattern in self.layers:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(
                    "TensorBoardQuantization: layers: expected names or patterns of quantized layers, got "
                    f"{pattern!r}; keras_dbq.summary(q_model) lists the layers"
                )
        chosen = zip(every, names, strict=True)
        return [layer for layer, name in chosen if any(fnmatchcase(name, pattern) for pattern in self.layers)]


class _Weights(NamedTuple):
    """What is written of one weight tensor. codes: int8 [B, ...], of linear weights their integers [1, ...]."""

    codes: np.ndarray
    numbers: dict[str, float]
    histograms: dict[str, np.ndarray]


def _looked_at(weight: wrappers.QuantizedWeight) -> _Weights:
    kernel = weight.variable.numpy()
    if weight.quantizer.branches:
        ternary = weight.quantizer.ternary_weights(kernel, weight.variables)
        numbers = _numbered("scale_branch", ternary.scales.mean(1)) | _numbered("threshold", ternary.thresholds.mean(1))
        numbers |= _numbered("zeros_branch", [np.mean(plane == 0) for plane in ternary.codes])
        return _Weights(ternary.codes, numbers, {"scales": ternary.scales, "thresholds": ternary.thresholds})
    linear = weight.quantizer.integer_weights(kernel, weight.variables)
    scale, zeros = float(linear.scale.mean()), float(np.mean(linear.values == 0))
    numbers = {"scale": scale, "threshold": scale * (2 ** (linear.bits - 1) - 1), "zeros": zeros}
    return _Weights(linear.values[None], numbers, {"scales": linear.scale})


def _numbered(what: str, values: Iterable[Any]) -> dict[str, float]:
    """{"what_1": first value, ...}."""
    return {f"{what}_{number}": float(value) for number, value in enumerate(values, 1)}


def _picture(weight: wrappers.QuantizedWeight) -> np.ndarray:
    """Staircases and shares of levels, uint8 [1, H, W, 4]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(_INCHES, _DOTS_PER_INCH, layout="constrained")  # without pyplot: its state is the user's
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    draw(left, right, weight.quantizer.ternary_weights(weight.variable.numpy(), weight.variables))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[None]


def _check_tensorboard() -> None:
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "TensorBoardQuantization: expected the package tensorboard, got none; run: pip install tensorboard"
        ) from error
