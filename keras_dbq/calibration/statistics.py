"""Batch norm statistics, and biases where there is no batch norm, measured under the quantized weights."""

from typing import Any, NamedTuple

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.network import batch_norm, kernels
from keras_dbq.network.batches import Batches
from keras_dbq.network.graph import Graph, inner, inputs, output, replay
from keras_dbq.wrapping import wrappers
from keras_dbq.wrapping.bias import match_bias, restore_bias


class _Moments:
    """Mean and variance of each channel over several batches.

    derived: over batches of n_b values with mean m_b and variance v_b the total is m = sum n_b m_b / n,
    v = sum n_b (v_b + m_b^2) / n - m^2.
    """

    def __init__(self) -> None:
        self.count, self.first, self.second = 0.0, 0.0, 0.0

    def add(self, value: Any) -> None:
        """Values [..., C]."""
        value = tf.cast(tf.reshape(value, [-1, value.shape[-1]]), tf.float64)
        self.count += float(value.shape[0])
        self.first = self.first + tf.reduce_sum(value, 0).numpy()
        self.second = self.second + tf.reduce_sum(value**2, 0).numpy()

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        mean = np.asarray(self.first / self.count)
        return mean, np.maximum(self.second / self.count - mean**2, 0)


def recalibrate_batch_norm(model: keras.Model, batches: Batches, float_model: keras.Model | None = None) -> bool:
    """Sets every batch norm's moving mean and variance to what the quantized weights ask for.

    With `float_model` its output keeps the mean and deviation that it has there (`batch_norm.keep_output_moments`);
    without, the statistics become those of the data, as training leaves them. All layers are measured in one pass: each
    normalises with its batch, so the layers behind it see what they will see afterwards. A layer that is called several
    times is measured over all its calls.

    Args:
      float_model: the network that `model` was made of, without nested models.

    Returns:
      Whether there is any batch norm that trains.
    """
    layers = [node.layer for node in Graph(model).nodes if _is_measured(node)]
    if not layers:
        return False
    names = {inner(layer).name for layer in layers}
    wanted = {} if float_model is None else _float_moments(float_model, batches, names)
    norms = {id(layer): _Measured(inner(layer), wanted.get(inner(layer).name)) for layer in layers}
    with wrappers.quantizer_flags(model, activations_bypass=True):
        for batch in batches.read("batch norm statistics"):
            replay(model, batch, lambda layer: norms[id(layer)].call if id(layer) in norms else layer)
    for norm in norms.values():
        norm.finish()
    return True


class _Wanted(NamedTuple):
    """A batch norm of the float network, and (mean, variance) [C] of what it reads there."""

    norm: keras.layers.Layer
    moments: tuple[np.ndarray, np.ndarray]


def _float_moments(model: keras.Model, batches: Batches, names: set[str]) -> dict[str, _Wanted]:
    """What the batch norms of these names are and read in the float network."""
    calls = [node for node in Graph(model).nodes if node.layer.name in names and _is_measured(node)]
    if not calls:
        return {}
    read, found = keras.Model(model.inputs, [inputs(node)[0] for node in calls]), {n: _Moments() for n in names}
    for batch in batches.read("batch norm, float network"):
        values = read(batch if len(batch) > 1 else batch[0], training=False)
        for node, value in zip(calls, tf.nest.flatten(values), strict=True):
            found[node.layer.name].add(value)
    return {node.layer.name: _Wanted(node.layer, found[node.layer.name].result()) for node in calls}


class _Measured:
    """A batch norm that normalises with its batch, and remembers what it read.

    wanted: in the float network; None: what it gives has mean 0 and deviation 1 before gamma and beta.
    """

    def __init__(self, norm: Any, wanted: _Wanted | None):
        self.norm, self.wanted, self.moments = norm, wanted, _Moments()
        mean, deviation, self.epsilon = 0.0, 1.0, norm.epsilon
        if wanted is not None:
            spread = np.sqrt(wanted.norm.moving_variance.numpy() + norm.epsilon)
            mean = (wanted.moments[0] - wanted.norm.moving_mean.numpy()) / spread
            # The deviation as it is: it may be far below epsilon, which only keeps a constant channel finite here.
            deviation, self.epsilon = np.sqrt(wanted.moments[1]) / spread, 1e-30
        gamma, beta = norm.gamma if norm.scale else 1.0, norm.beta if norm.center else 0.0
        self.factor = tf.cast(gamma * np.float32(deviation), tf.float32)
        self.offset = tf.cast(gamma * np.float32(mean) + beta, tf.float32)

    def call(self, x: Any, *_: Any, **__: Any) -> Any:
        self.moments.add(x)
        x = tf.cast(x, tf.float32)
        mean, variance = tf.nn.moments(x, list(range(len(x.shape) - 1)))
        result = (x - mean) * tf.math.rsqrt(variance + self.epsilon) * self.factor + self.offset
        return tf.cast(result, self.norm.compute_dtype)

    def finish(self) -> None:
        own = self.moments.result()
        if self.wanted is not None:
            batch_norm.keep_output_moments(self.norm, own, self.wanted.moments, self.wanted.norm)
        else:
            self.norm.moving_mean.assign(own[0].astype(np.float32))
            self.norm.moving_variance.assign(own[1].astype(np.float32))


def _is_measured(node: Any) -> bool:
    """Whether a call is that of a batch norm over the channels, which trains."""
    norm = inner(node.layer)
    if not batch_norm.is_batch_norm(norm) or not norm.trainable:
        return False
    return batch_norm.over_channels(norm, len(inputs(node)[0].shape))


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
