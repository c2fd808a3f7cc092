"""Batch norm statistics, and biases where there is no batch norm, measured under the quantized weights."""

from typing import Any

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.network import batch_norm, kernels
from keras_dbq.network.batches import Batches
from keras_dbq.network.graph import Graph, inner, inputs, output, replay
from keras_dbq.wrapping import wrappers
from keras_dbq.wrapping.bias import match_bias, restore_bias


def recalibrate_batch_norm(model: keras.Model, batches: Batches) -> bool:
    """Sets every batch norm's moving mean and variance to those of the data under the quantized weights.

    derived: over batches of n_b values with mean m_b and variance v_b the total is m = sum n_b m_b / n,
    v = sum n_b (v_b + m_b^2) / n - m^2. All layers are measured in one pass: in training mode each normalises with its
    batch, so the layers behind it see what they will see afterwards. A layer that is called several times is measured
    over all its calls.

    Returns:
      Whether there is any batch norm that trains.
    """
    graph = Graph(model)
    calls = [node for node in graph.nodes if _is_measured(node)]
    if not calls:
        return False
    statistics = keras.Model(model.inputs, [inputs(node)[0] for node in calls])
    layers = {id(node.layer): node.layer for node in calls}
    sums: dict[int, list[Any]] = {key: [0.0, 0.0, 0.0] for key in layers}
    with wrappers.quantizer_flags(model, activations_bypass=True), _without_dropout(model):
        saved = [(layer, layer.get_weights()) for layer in layers.values()]
        for batch in batches.read("batch norm statistics"):
            values = statistics(batch if len(batch) > 1 else batch[0], training=True)
            for node, value in zip(calls, tf.nest.flatten(values), strict=True):
                _add_moments(sums[id(node.layer)], value)
        for layer, weights in saved:
            layer.set_weights(weights)
    for key, (count, first, second) in sums.items():
        norm, mean = inner(layers[key]), first / count
        norm.moving_mean.assign(mean.astype(np.float32))
        norm.moving_variance.assign(np.maximum(second / count - mean**2, 0).astype(np.float32))
    return True


def _is_measured(node: Any) -> bool:
    """Whether a call is that of a batch norm over the channels, which trains."""
    norm = inner(node.layer)
    if not batch_norm.is_batch_norm(norm) or not norm.trainable:
        return False
    return batch_norm.over_channels(norm, len(inputs(node)[0].shape))


def _add_moments(total: list[Any], value: Any) -> None:
    """Adds count, sum and sum of squares of each channel."""
    value = tf.cast(tf.reshape(value, [-1, value.shape[-1]]), tf.float64)
    total[0] += float(value.shape[0])
    total[1] = total[1] + tf.reduce_sum(value, 0).numpy()
    total[2] = total[2] + tf.reduce_sum(value**2, 0).numpy()


def match_outputs(model: keras.Model, batches: Batches) -> None:
    """Corrects the kernel layers of a network without batch norm, one output channel at a time.

    Each gets the mean, and where the weights are ternary the standard deviation, that it has with float weights.

    derived: with y_f, y_q the channel's output (before its activation) with float and with quantized weights,
    post_scale *= r, r = std(y_f) / std(y_q), clipped to [0.5, 2], and bias += mean(y_f) - r * mean(y_q - b) - b. What
    batch norm's measured statistics do for other networks, for those whose batch norm was folded before. Layers are
    corrected in order of execution, each on what the corrected ones before it give.
    """
    batch = batches.first()
    for layer in _kernels_without_batch_norm(model):
        restore_bias(layer)
    wanted = {id(layer) for layer in _kernels_without_batch_norm(model)}
    moments: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def measure(layer: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            moments[id(layer)] = _moments(_linear_output(layer, args[0]))
            return layer(*args, **kwargs)

        return call if id(layer) in wanted else layer

    def correct(layer: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            _correct(layer, moments[id(layer)], _moments(_linear_output(layer, args[0])))
            return layer(*args, **kwargs)

        return call if id(layer) in wanted else layer

    with wrappers.quantizer_flags(model, weights_bypass=True, activations_bypass=True):
        replay(model, batch, measure)
    with wrappers.quantizer_flags(model, activations_bypass=True):
        replay(model, batch, correct)


def _kernels_without_batch_norm(model: keras.Model) -> list[keras.layers.Layer]:
    """Wrapped kernel layers with a bias, called once, whose output no batch norm reads; in order of execution."""
    graph = Graph(model)

    def wanted(node: Any) -> bool:
        layer = node.layer
        normed = any(batch_norm.is_batch_norm(reader.layer) for reader in graph.readers(output(node)))
        # One correction cannot suit several calls.
        once = len(graph.calls(layer)) == 1
        return bool(wrappers.quantized_weights(layer)) and once and inner(layer).use_bias and not normed

    return [node.layer for node in graph.nodes if wanted(node)]


def _linear_output(wrapper: Any, x: Any) -> Any:
    """The layer's output before its activation (quantizers of activations pass everything through meanwhile)."""
    with kernels.without_activation(wrapper.layer):
        return wrapper(x, training=False)


def _moments(y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel."""
    y = tf.cast(tf.reshape(y, [-1, y.shape[-1]]), tf.float64)
    mean = tf.reduce_mean(y, 0)
    return mean.numpy(), tf.sqrt(tf.reduce_mean((y - mean) ** 2, 0)).numpy()


def _correct(wrapper: Any, wanted: tuple[np.ndarray, np.ndarray], got: tuple[np.ndarray, np.ndarray]) -> None:
    bias = wrappers.bias(wrapper)
    assert bias is not None  # of `_kernels_without_batch_norm`
    ratio = np.ones_like(got[1])
    weight = wrappers.quantized_weights(wrapper)[0]
    scale = weight.variables.get("post_scale")
    if scale is not None and scale.shape == ratio.shape:
        ratio = np.clip(wanted[1] / np.maximum(got[1], 1e-12), 0.5, 2.0)
        scale.assign(scale * ratio.astype(np.float32))
    old = bias.numpy()
    match_bias(wrapper, (wanted[0] - ratio * (got[0] - old)).astype(np.float32))


class _without_dropout:
    """Sets the rates of dropout layers to zero for a while."""

    def __init__(self, model: keras.Model):
        self.layers = [
            inner(layer) for layer in wrappers.all_layers(model) if isinstance(inner(layer), keras.layers.Dropout)
        ]

    def __enter__(self) -> None:
        self.rates = [layer.rate for layer in self.layers]
        for layer in self.layers:
            layer.rate = 0.0

    def __exit__(self, *_: object) -> None:
        for layer, rate in zip(self.layers, self.rates, strict=True):
            layer.rate = rate
