"""How far a quantized network is from its float self, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.network import graph, kernels
from keras_dbq.training import outputs
from keras_dbq.wrapping import wrappers

LARGEST_DB = 120.0  # of equal tensors; float32 does not resolve more


@dataclass(frozen=True)
class Error:
    """Of one tensor.

    snr: signal to noise in dB, 10 log10(sum t^2 / sum (t - q)^2), at most `LARGEST_DB`.  cosine: of the angle.
    """

    name: str
    snr: float
    cosine: float


def error(name: str, wanted: np.ndarray, got: np.ndarray) -> Error:
    """Of a tensor `got` that should be `wanted`."""
    t, q = (np.asarray(a, np.float64).ravel() for a in (wanted, got))
    signal, noise = float(t @ t), float((t - q) @ (t - q))
    snr = LARGEST_DB if not noise else 10 * np.log10(max(signal, 1e-300) / noise)
    norms = np.sqrt(signal) * np.sqrt(float(q @ q))
    return Error(
        name, float(min(snr, LARGEST_DB)), float(t @ q) / norms if norms else float(not signal and not q.any())
    )


def weight_errors(q_model: keras.Model) -> list[Error]:
    """Of every quantized kernel."""
    found = []
    for layer in wrappers.all_layers(q_model):
        for weight in wrappers.quantized_weights(layer):
            used = np.asarray(weight.quantizer(weight.variable, False, weight.variables))
            found.append(error(wrappers.inner(layer).name, weight.variable.numpy(), used))
    return found


def activation_errors(q_model: keras.Model, float_model: keras.Model, x: np.ndarray) -> list[Error]:
    """Of every quantized activation that the float network has under the same layer name, on pictures x [N, ...]."""
    try:
        student, teacher, names = outputs.hidden_models(q_model, float_model)
    except ValueError:  # several outputs, or no layer of the same name
        return []
    ours, theirs = student(x, training=False)[1], teacher(x, training=False)[1]
    return [error(name, b, a) for name, a, b in zip(names, ours, theirs, strict=True)]


def weight_costs(q_model: keras.Model, float_model: keras.Model, x: Any) -> dict[str, float]:
    """How far the float network's outputs move where one layer alone has its quantized weights.

    Each output channel of the layer gets the factor and the offset that bring it nearest to the float one, as the batch
    norm behind it does when it is measured again; what is left is what the codes cannot express.

    Args:
      x: pictures, as the float network takes them; one array, or a list.

    Returns:
      {layer: ||outputs - float outputs||^2 / ||float outputs - their mean||^2}, of the layers that both networks have.
    """
    flat = graph.flat_copy(float_model)
    calls = {node.layer.name: node for node in graph.nodes(flat) if kernels.is_kernel_layer(node.layer)}
    wanted = _flat(flat(x, training=False))
    spread = float(np.sum((wanted - wanted.mean()) ** 2))
    costs = {}
    for layer in wrappers.all_layers(q_model):
        name = wrappers.inner(layer).name
        for weight in wrappers.quantized_weights(layer) if name in calls and spread else []:
            float_layer = calls[name].layer
            used = np.asarray(weight.quantizer(weight.variable, False, weight.variables))
            if used.shape == tuple(getattr(float_layer, kernels.attribute(float_layer)).shape):
                changed = _with_weights(flat, calls[name], used, x)
                costs[name] = float(np.sum((_flat(changed(x, training=False)) - wanted) ** 2)) / spread
    return costs


def _with_weights(model: keras.Model, node: Any, used: np.ndarray, x: Any) -> keras.Model:
    """A float model in which one layer has the weights `used`, each channel scaled and moved."""
    layer = node.layer
    plain = graph.clone(layer, use_bias=False, activation="linear")
    seen = keras.Model(model.inputs, graph.inputs(node)[0])(x, training=False)
    plain(seen)  # builds it
    results = []
    for kernel in (layer.get_weights()[0], used):
        plain.set_weights([kernel])
        results.append(np.asarray(plain(seen), np.float64).reshape(-1, kernels.channels(layer, kernel.shape)))
    factor, offset = _nearest(*results)
    bias = layer.get_weights()[1] if layer.use_bias else 0.0
    new = graph.clone(layer, use_bias=True)
    changed = graph.rebuild(model, lambda other: new if other is layer else graph.again(other))
    new.set_weights([used * factor.reshape(kernels.channel_shape(layer, used.shape)), bias + offset])
    return changed


def _nearest(wanted: np.ndarray, got: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(factor, offset) of each column, least squares of wanted - factor * got - offset."""
    centred, target = got - got.mean(0), wanted - wanted.mean(0)
    power = (centred**2).sum(0)
    factor = np.where(power > 0, (centred * target).sum(0) / np.where(power > 0, power, 1), 0.0)
    return factor, wanted.mean(0) - factor * got.mean(0)


def _flat(outputs: Any) -> np.ndarray:
    return np.concatenate([np.asarray(y, np.float64).ravel() for y in tf.nest.flatten(outputs)])
