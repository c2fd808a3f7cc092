"""How much of some data lies outside of the ranges of a quantized model's inputs."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from keras_dbq._checks import SATURATION, saturation_text, share_outside
from keras_dbq.compat import keras
from keras_dbq.network.graph import Graph, inputs
from keras_dbq.wrapping import wrappers
from keras_dbq.wrapping.layers import QuantizeTensor


def outside_of_range(q_model: keras.Model, batch: list[Any]) -> dict[str, float]:
    """{input: share of its numbers more than a step outside of its range}; one array per input of the model."""
    given = {id(tensor): np.asarray(x) for tensor, x in zip(q_model.inputs, batch, strict=True)}
    found = {}
    for node in Graph(q_model).nodes:
        tensor = wrappers.quantized_output(node.layer) if isinstance(node.layer, QuantizeTensor) else None
        source = inputs(node)[0] if tensor is not None else None
        if tensor is not None and source is not None and id(source) in given:
            low, high = (float(end) for end in tensor.quantizer.range(tensor.variables))
            found[source._keras_history.layer.name] = share_outside(given[id(source)], low, high)
    return found


def warn_of_saturation(where: str, q_model: keras.Model, batch: list[Any]) -> None:
    """One warning per input of which more than `SATURATION` is clipped."""
    for name, share in outside_of_range(q_model, batch).items():
        if share > SATURATION:
            warnings.warn(f"{where}: {saturation_text(name, share)}", stacklevel=3)
