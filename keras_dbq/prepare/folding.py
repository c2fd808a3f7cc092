"""Batch norm folded into the layer before it, in the float network."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_dbq.compat import check_keras_model, keras, tf
from keras_dbq.network import graph, roles

L = keras.layers


def fold_batch_norms(model: keras.Model) -> keras.Model:
    """A copy of a float model in which batch norm is part of the kernel layers before it.

    derived: y = gamma (w x + b - mean) / sqrt(variance + epsilon) + beta is the same layer with the kernel f w and the
    bias f (b - mean) + beta, f = gamma / sqrt(variance + epsilon) per output channel, computed in float64.

    Folded are batch norms that alone read a Conv2D, DepthwiseConv2D, Dense or SeparableConv2D (its pointwise part)
    without activation. Other batch norms stay. Layers keep their names; nested models are spliced in
    (`graph.flat_copy`), the model itself stays untouched.

    Args:
      model: tf_keras functional or Sequential model; the copy gives its outputs at inference, up to float32 rounding.

    Raises:
      TypeError, ValueError: not a tf_keras model that can be copied.
    """
    check_keras_model(model, "fold_batch_norms")
    flat = graph.flat_copy(model)
    folds = _folds(flat)
    folded = {id(norm) for norm in folds.values()}
    later: list[Any] = []

    def replace(layer: Any) -> Any:
        if id(layer) in folded:
            return lambda x, **_: x
        norm = folds.get(layer.name)
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


def affine(norm: Any) -> tuple[np.ndarray, np.ndarray]:
    """(factor, offset) of a batch norm at inference, y = factor * x + offset; float64 [C]."""
    mean = np.asarray(norm.moving_mean, np.float64)
    factor = 1 / np.sqrt(np.asarray(norm.moving_variance, np.float64) + norm.epsilon)
    if norm.scale:
        factor = factor * np.asarray(norm.gamma, np.float64)
    offset = -mean * factor
    if norm.center:
        offset = offset + np.asarray(norm.beta, np.float64)
    return factor, offset


def folded_weights(layer: Any, norm: Any) -> list[np.ndarray]:
    """Weights of the layer with its batch norm folded in, the bias last; float32."""
    factor, offset = affine(norm)
    weights = [np.asarray(w, np.float64) for w in layer.get_weights()]
    bias = weights.pop() if layer.use_bias else np.zeros(len(factor))
    kernel = weights[-1]
    # A depthwise kernel (h, w, C, multiplier) has its channels in the last two axes, any other in the last.
    shape = kernel.shape[-2:] if isinstance(layer, L.DepthwiseConv2D) else kernel.shape[-1:]
    weights[-1] = kernel * factor.reshape(shape)
    return [w.astype(np.float32) for w in (*weights, factor * bias + offset)]


def _folds(model: keras.Model) -> dict[str, Any]:
    """{name of a kernel layer: the batch norm that folds into it}."""
    consumers, outputs = graph.consumers(model), graph.output_ids(model)
    calls: dict[int, int] = {}
    for node in graph.nodes(model):
        calls[id(node.layer)] = calls.get(id(node.layer), 0) + 1
    found: dict[str, Any] = {}
    for node in graph.nodes(model):
        if not isinstance(node.layer, L.BatchNormalization) or calls[id(node.layer)] > 1:
            continue
        tensor = tf.nest.flatten(node.keras_inputs)[0]
        producer = tensor._keras_history.layer
        foldable = roles.is_kernel_layer(producer) or type(producer) is L.SeparableConv2D
        alone = len(consumers[id(tensor)]) == 1 and id(tensor) not in outputs
        if not foldable or not alone or calls[id(producer)] > 1:
            continue
        if roles.activation_name(producer.activation) == "linear" and over_channels(node.layer, tensor):
            found[producer.name] = node.layer
    return found


def over_channels(norm: Any, tensor: Any) -> bool:
    """Whether a batch norm on this tensor (or with this output) has its parameters along the last axis alone."""
    axes = [norm.axis] if isinstance(norm.axis, int) else list(norm.axis)
    return [axis % len(tensor.shape) for axis in axes] == [len(tensor.shape) - 1]
