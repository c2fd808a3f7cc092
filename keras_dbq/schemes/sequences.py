"""Layers on sequences [N, T, C] as layers on maps [N, 1, T, C], and TimeDistributed layers as layers on N T examples.

A tensor is brought to its other form once: behind a rewritten layer both forms are at hand, and what maps numbers or
channels by themselves (batch norm, ReLU, Add) goes on with the form that is there. Forms that nothing reads are no part
of the model.
"""

from typing import Any

from keras_dbq.compat import keras, tf
from keras_dbq.network import graph
from keras_dbq.network.graph import inputs
from keras_dbq.schemes.rewriting import Call, Rewriting

L = keras.layers
# choice: the stride of a depthwise convolution has to be the same along both axes; along the one of size 1 any will do.
_AS_MAP: dict[type, Any] = {
    L.Conv1D: L.Conv2D,
    L.Conv1DTranspose: L.Conv2DTranspose,
    L.DepthwiseConv1D: L.DepthwiseConv2D,
    L.SeparableConv1D: L.SeparableConv2D,
    L.MaxPooling1D: L.MaxPooling2D,
    L.AveragePooling1D: L.AveragePooling2D,
    L.GlobalMaxPooling1D: L.GlobalMaxPooling2D,
    L.GlobalAveragePooling1D: L.GlobalAveragePooling2D,
    L.UpSampling1D: L.UpSampling2D,
    L.ZeroPadding1D: L.ZeroPadding2D,
    L.Cropping1D: L.Cropping2D,
    L.SpatialDropout1D: L.SpatialDropout2D,
}
# What a layer on maps has along its first axis.
_FIRST = {
    "kernel_size": 1, "pool_size": 1, "dilation_rate": 1, "size": 1, "padding": (0, 0), "cropping": (0, 0),
    "output_padding": 0,
}  # fmt: skip
_EITHER_FORM = (
    *(L.ReLU, L.LeakyReLU, L.ELU, L.ThresholdedReLU, L.Activation, L.Dropout, L.GaussianNoise, L.GaussianDropout),
    *(L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum, L.BatchNormalization, L.Concatenate),
    *(L.Rescaling, L.SpatialDropout1D, L.ActivityRegularization),
)


class Sequences:
    """The rules for such layers in one model: `(layer) -> what is called instead`, or None."""

    def __init__(self, rewriting: Rewriting):
        self.rewriting, self.count = rewriting, 0
        self._maps: dict[int, tuple[Any, Any]] = {}  # id of a sequence -> it, and its map
        self._merged: dict[int, tuple[Any, Any]] = {}  # id of a tensor [N, T, ...] -> it, and as [N T, ...]
        kinds = {type(node.layer) for node in rewriting.graph.nodes}
        self.needed = bool(kinds & {*_AS_MAP, L.TimeDistributed})

    def __call__(self, layer: keras.layers.Layer) -> Call | None:
        if getattr(layer, "data_format", None) == "channels_first":
            return None
        if isinstance(layer, L.TimeDistributed):
            return self._time_distributed(layer)
        if type(layer) in _AS_MAP and not isinstance(layer, L.SpatialDropout1D):
            return self._as_map(layer)
        ranks = {len(t.shape) for node in self.rewriting.graph.calls(layer) for t in inputs(node)}
        if isinstance(layer, _EITHER_FORM) and ranks == {3} and _in_last_axis(layer):
            return self._in_either_form(layer)
        return None

    # layers on sequences

    def _as_map(self, layer: Any) -> Call:
        new = _AS_MAP[type(layer)].from_config(_config(layer))
        new.trainable = layer.trainable
        note = f"{type(layer).__name__} as {type(new).__name__} on a map of height 1"
        self.rewriting.comes_from(layer, note)
        weights = [w[None] if w.ndim > 1 else w for w in layer.get_weights()]
        self.rewriting.later(lambda: new.set_weights(weights))
        causal = _causal_padding(layer)
        if causal is not None:
            self.rewriting.comes_from(layer, "padding of the past", causal.name)

        def call(x: Any, **_: Any) -> Any:
            x = self._map(layer, x)
            return self._sequence(layer, new(x if causal is None else causal(x)))

        return call

    def _in_either_form(self, layer: Any) -> Call:
        on_sequences, on_maps = None, None

        def call(tensors: Any, **kwargs: Any) -> Any:
            nonlocal on_sequences, on_maps
            flat = tf.nest.flatten(tensors)
            if not any(id(tensor) in self._maps for tensor in flat):
                on_sequences = on_sequences or self.rewriting.copied(layer)
                return on_sequences(tensors, **kwargs)
            on_maps = on_maps or self.rewriting.copied(layer, **_changed_axis(layer))
            maps = [self._map(layer, tensor) for tensor in flat]
            return self._sequence(layer, on_maps(maps if isinstance(tensors, (list, tuple)) else maps[0], **kwargs))

        return call

    def _map(self, layer: Any, x: Any) -> Any:
        if id(x) not in self._maps:
            self._maps[id(x)] = x, self._reshaped(layer, x, (1, *x.shape[1:]), "map")
        return self._maps[id(x)][1]

    def _sequence(self, layer: Any, y: Any) -> Any:
        """The map of height 1 as a sequence; what has no height any more stays as it is."""
        if len(y.shape) != 4:
            return y
        x = self._reshaped(layer, y, tuple(y.shape[2:]), "sequence")
        self._maps[id(x)] = x, y
        return x

    def _reshaped(self, layer: Any, x: Any, shape: tuple[int, ...], kind: str) -> Any:
        self.count += 1
        new = L.Reshape(shape, name=f"{layer.name}_{kind}_{self.count}")
        self.rewriting.comes_from(layer, f"as a {kind}", new.name)
        return new(x)

    # layers at every step of time

    def _time_distributed(self, wrapper: Any) -> Call:
        inner = wrapper.layer
        run = self._model_inside(wrapper, inner) if isinstance(inner, keras.Model) else self._layer_inside(wrapper)

        def call(x: Any, **_: Any) -> Any:
            steps = x.shape[1]
            if id(x) not in self._merged:
                self._merged[id(x)] = x, self._moved(wrapper, tf.reshape(x, [-1, *x.shape[2:]]))
            y = run(self._merged[id(x)][1])
            result = self._moved(wrapper, tf.reshape(y, [-1, steps, *y.shape[1:]]))
            self._merged[id(result)] = result, y
            return result

        return call

    def _layer_inside(self, wrapper: Any) -> Call:
        new = self.rewriting.copied(wrapper.layer, name=wrapper.name)
        self.rewriting.comes_from(wrapper, f"{type(wrapper.layer).__name__} on all steps of time at once")
        return new

    def _model_inside(self, wrapper: Any, inner: keras.Model) -> Call:
        flat, copies = graph.flat_copy(inner), {}

        def copy(layer: Any) -> Any:
            if id(layer) not in copies:
                name = f"{wrapper.name}_{layer.name}"
                copies[id(layer)] = self.rewriting.copied(layer, name=name)
                self.rewriting.comes_from(wrapper, f"{layer.name} on all steps of time at once", name)
            return copies[id(layer)]

        return lambda x: tf.nest.flatten(graph.replay(flat, [x], copy))[0]

    def _moved(self, layer: Any, tensor: Any) -> Any:
        self.rewriting.comes_from(layer, "steps of time as examples, or back", tensor._keras_history.layer.name)
        return tensor


def _in_last_axis(layer: Any) -> bool:
    """Whether what a layer does along an axis, if any, is along the last one, or a Concatenate along any but N."""
    if isinstance(layer, L.BatchNormalization):
        return [layer.axis] in ([-1], [2], [[-1]], [[2]])
    return not isinstance(layer, L.Concatenate) or layer.axis in (-1, 1, 2)


def _changed_axis(layer: Any) -> dict[str, Any]:
    """The config that a layer of either form has on maps, where it is another."""
    if isinstance(layer, L.BatchNormalization):
        return {"axis": -1}
    return {"axis": {1: 2, 2: -1, -1: -1}[layer.axis]} if isinstance(layer, L.Concatenate) else {}


def _config(layer: Any) -> dict[str, Any]:
    """The config of the layer on maps that stands for one on sequences."""
    config = layer.get_config()
    for key, first in _FIRST.items():
        value = config.get(key)
        if value is not None and not isinstance(value, str):
            config[key] = (first, _second(value, key))
    if config.get("strides") is not None:
        stride = _second(config["strides"], "strides")
        pooling = "pool_size" in config
        config["strides"] = (1 if pooling or isinstance(layer, L.Conv1DTranspose) else stride, stride)
    if config.get("padding") == "causal":
        config["padding"] = "valid"
    if callable(getattr(layer, "activation", None)):
        config["activation"] = layer.activation
    return config


def _second(value: Any, key: str) -> Any:
    """The one number, or the pair of a padding or cropping, of a layer on sequences."""
    if key in ("padding", "cropping"):
        return tuple(value) if isinstance(value, (list, tuple)) else (value, value)
    return value[0] if isinstance(value, (list, tuple)) else value


def _causal_padding(layer: Any) -> Any:
    if getattr(layer, "padding", None) != "causal":
        return None
    past = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
    return L.ZeroPadding2D(((0, 0), (past, 0)), name=f"{layer.name}_past")
