"""A factor and an offset per channel (Rescaling, Normalization, a batch norm that folds into nothing) as a depthwise
convolution of one place, 8 bit.

Where the channels are not the last of four axes, it stands between Permute and Reshape layers.
"""

from typing import Any

import numpy as np

from keras_dbq.compat import keras
from keras_dbq.network import batch_norm, channels, roles
from keras_dbq.network.graph import inputs
from keras_dbq.schemes.rewriting import Call, Rewriting, nothing

L = keras.layers
_FEW_CHANNELS = 96


class Affine:
    """The rules for such layers in one model: `(layer) -> what is called instead`, or None."""

    def __init__(self, rewriting: Rewriting):
        self.rewriting, self.graph = rewriting, rewriting.graph
        self.folded = {id(norm) for norm in batch_norm.folds(self.graph).values()}
        self.taken_in = self._activations_taken_in()

    def __call__(self, layer: keras.layers.Layer) -> Call | None:
        if any(layer is activation for activation in self.taken_in.values()):
            return nothing
        return self._rewrite(layer) if self._is_affine(layer) else None

    def _is_affine(self, layer: Any) -> bool:
        loose = isinstance(layer, L.BatchNormalization) and id(layer) not in self.folded
        return loose or isinstance(layer, (L.Rescaling, L.Normalization))

    def _rewrite(self, layer: Any) -> Call:
        """scale * x + offset as a 1x1 depthwise convolution."""
        if None in [size for node in self.graph.calls(layer) for size in inputs(node)[0].shape[1:]]:
            return self.rewriting.copied(layer)  # refused for its size
        activation = self.taken_in.get(id(layer))
        new = L.DepthwiseConv2D(1, use_bias=True, activation=_function_of(activation), name=layer.name)
        new.trainable = isinstance(layer, L.BatchNormalization) and layer.trainable
        note = f"{type(layer).__name__} as a 1x1 depthwise convolution" + (", with its ReLU" if activation else "")
        self.rewriting.comes_from(layer, note, affine=True)
        self.rewriting.later(lambda: new.set_weights(_depthwise_weights(layer, new)))
        times = self._times(layer)
        return around(self.rewriting, layer, lambda rank: axes(layer, rank), new, times)

    def _times(self, layer: Any) -> int:
        """How many places of the map become channels of one place, for what has few channels and does not train.

        choice: XNNPACK's depthwise convolution computes many channels at once and is slow with three: a Rescaling of
        96 x 96 x 3 takes 45 us so, 9 us with 96 channels at 288 places, and 8 us with 256.
        """
        tensors = [inputs(node)[0] for node in self.graph.calls(layer)]
        trains, shapes = isinstance(layer, L.BatchNormalization), {tuple(tensor.shape[1:]) for tensor in tensors}
        if trains or len(shapes) != 1 or not _is_plain(layer, tensors[0]):
            return 1
        height, width, count = shapes.pop()
        wanted = range(-(-_FEW_CHANNELS // count), height * width + 1)
        return next((n for n in wanted if height * width % n == 0 and n * count < 2 * _FEW_CHANNELS), 1)

    def _activations_taken_in(self) -> dict[int, Any]:
        """{id of an affine layer: the ReLU behind it}: where a Reshape would stand between them in the file."""
        found = {}
        for node in self.graph.nodes:
            layer = node.layer
            if layer.name not in self.rewriting.quantized or not self._is_affine(layer):
                continue
            reader = self.graph.only_reader(node)
            plain = reader is not None and not roles.is_function_layer(reader.layer)
            once = len(self.graph.calls(layer)) == 1 and not _is_plain(layer, inputs(node)[0])
            if plain and once and self._can_be_taken_in(reader.layer):
                found[id(layer)] = reader.layer
        return found

    def _can_be_taken_in(self, layer: Any) -> bool:
        once = len(self.graph.calls(layer)) == 1 and layer.name in self.rewriting.quantized
        return once and channels.crossing(layer) in ("relu", "relu6")


def _function_of(activation: Any) -> Any:
    return None if activation is None else keras.activations.get(channels.crossing(activation))


def axes(layer: Any, rank: int) -> tuple[int, ...]:
    """Axes of the parameters of a Rescaling, Normalization or BatchNormalization layer; ascending."""
    if isinstance(layer, L.BatchNormalization):
        return batch_norm.axes(layer, rank)
    given = getattr(layer, "axis", None) or (-1,)  # a scalar holds for every channel
    return tuple(sorted(axis % rank for axis in given))


def _is_plain(layer: Any, tensor: Any) -> bool:
    """Whether the channels are the last of four axes already."""
    return len(tensor.shape) == 4 and axes(layer, 4) == (3,)


def around(rewriting: Rewriting, layer: Any, axes_of: Any, new: Call, times: int = 1) -> Call:
    """`new`, which works on the last of four axes, in place of `layer`, which works on the axes `axes_of(rank)`.

    `new` is called once for each call of the layer, each between layers of its own. times: so many places of the map
    are channels of one place for it.
    """
    calls = iter(range(1, 1 + len(rewriting.graph.calls(layer))))

    def call(x: Any, **_: Any) -> Any:
        number = next(calls)
        way = _Around(layer.name, axes_of(len(x.shape)), x, "" if number == 1 else f"_{number}", times)
        if way.names:
            rewriting.comes_from(layer, "brings the channels to the last of four axes, or back", *way.names)
        return way(new, x)

    return call


class _Around:
    """Brings the axes with parameters to the last of four axes, and back behind the layer.

    derived: Permute and Reshape only move values, so the file keeps their codes.
    """

    def __init__(self, name: str, axes: tuple[int, ...], tensor: Any, ending: str, times: int):
        rank = len(tensor.shape)
        order = [*(a for a in range(1, rank) if a not in axes), *axes]
        sizes = [tensor.shape[a] for a in order]
        self.first: list[Any] = []
        self.second: list[Any] = []
        if order != sorted(order):
            back = [order.index(a) + 1 for a in range(1, rank)]
            self.first.append(L.Permute(order, name=f"{name}_permute{ending}"))
            self.second.append(L.Permute(back, name=f"{name}_permute_back{ending}"))
        if rank != 4 or len(axes) != 1 or times > 1:
            width = times * int(np.prod(sizes[len(sizes) - len(axes) :]))
            self.first.append(L.Reshape((-1, 1, width), name=f"{name}_reshape{ending}"))
            self.second.insert(0, L.Reshape(sizes, name=f"{name}_reshape_back{ending}"))

    @property
    def names(self) -> list[str]:
        """Of the layers."""
        return [layer.name for layer in (*self.first, *self.second)]

    def __call__(self, layer: Any, x: Any) -> Any:
        for step in (*self.first, layer, *self.second):
            x = step(x)
        return x


def _depthwise_weights(layer: Any, depthwise: Any) -> list[np.ndarray]:
    """Kernel and bias of the 1x1 depthwise convolution that stands for an affine layer."""
    shape = depthwise.depthwise_kernel.shape
    # What stands for several places at once has their factors one after the other.
    scale, offset = (np.resize(v, (shape[2],)).astype(np.float32) for v in _factor_and_offset(layer))
    return [scale.reshape(shape), offset]


def _factor_and_offset(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset of a Rescaling, Normalization or BatchNormalization layer at inference, float64."""
    if isinstance(layer, L.Rescaling):
        return np.asarray(layer.scale, np.float64), np.asarray(layer.offset, np.float64)
    if isinstance(layer, L.BatchNormalization):
        return batch_norm.affine(layer)
    mean, variance = np.asarray(layer.mean, np.float64), np.asarray(layer.variance, np.float64)
    scale = 1 / np.maximum(np.sqrt(variance), keras.backend.epsilon())
    scale, offset = (1 / scale, mean) if getattr(layer, "invert", False) else (scale, -mean * scale)
    return scale.reshape(-1), offset.reshape(-1)
