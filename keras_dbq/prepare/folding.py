"""Batch norm folded into the layer before it, in the float network."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_dbq.compat import check_keras_model, keras
from keras_dbq.network import batch_norm, graph, kernels
from keras_dbq.network.graph import Graph


def fold_batch_norms(model: keras.Model) -> keras.Model:
    """A copy of a float model in which batch norm is part of the kernel layers before it.

    derived: y = gamma (w x + b - mean) / sqrt(variance + epsilon) + beta is the same layer with the kernel f w and the
    bias f (b - mean) + beta, f = gamma / sqrt(variance + epsilon) per output channel, computed in float64.

    Folded are those that `network.batch_norm.folds` names. Other batch norms stay. Layers keep their names; nested
    models are spliced in (`graph.flat_copy`), the model itself stays untouched.

    Args:
      model: tf_keras functional or Sequential model; the copy gives its outputs at inference, up to float32 rounding.

    Raises:
      TypeError, ValueError: not a tf_keras model that can be copied.
    """
    check_keras_model(model, "fold_batch_norms")
    flat = graph.flat_copy(model)
    folds = batch_norm.folds(Graph(flat))
    folded = {id(norm) for norm in folds.values()}
    later: list[Any] = []

    def replace(layer: Any) -> Any:
        if id(layer) in folded:
            return lambda x, **_: x
        norm = folds.get(id(layer))
        config = layer.get_config()
        if norm is not None:
            config["use_bias"] = True
        new = layer.__class__.from_config(config)
        new.trainable = layer.trainable
        weights = layer.get_weights() if norm is None else None
        later.append(lambda: new.set_weights(folded_weights(layer, norm) if weights is None else weights))
        return new

    result = graph.rebuild(flat, replace)
    for set_weights in later:
        set_weights()
    return result


def folded_weights(layer: Any, norm: Any) -> list[np.ndarray]:
    """Weights of the layer with its batch norm folded in, the bias last; float32."""
    factor, offset = batch_norm.affine(norm)
    weights = [np.asarray(w, np.float64) for w in layer.get_weights()]
    bias = weights.pop() if layer.use_bias else np.zeros(len(factor))
    weights[-1] = kernels.scale_outputs(layer, weights[-1], factor)
    return [w.astype(np.float32) for w in (*weights, factor * bias + offset)]
