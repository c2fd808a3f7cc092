"""Conv2DTranspose as a convolution to all places of a block at once, and DEPTH_TO_SPACE.

derived, along one axis, with kernel k, stride s, and b outputs cut off at the beginning: the output at
p = o + b = s q + r is sum_j x[q - j] w[r + s j], j < J = ceil(k / s). So place r of the blocks is a convolution with J
taps of its own, w[r + s j], those beyond the kernel zero: one Conv2D with s * s * M channels gives all places, and
DEPTH_TO_SPACE puts them beside each other. Outputs o are those of q = b // s .. (b + size - 1) // s.
"""

from typing import Any, NamedTuple

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.network import batch_norm, channels, roles
from keras_dbq.schemes.rewriting import Call, Rewriting, nothing

L = keras.layers


class Geometry(NamedTuple):
    """Of one axis. taps: of each place's convolution.  pad, crop: (before, after) of its input, of the blocks."""

    taps: int
    pad: tuple[int, int]
    crop: tuple[int, int]


def geometry(kernel: int, stride: int, dilation: int, same: bool, size: int, wanted: int) -> Geometry:
    """Geometry of an axis of `size` values that become `wanted`; a dilation above 1 has stride 1."""
    reach = (kernel - 1) * dilation + 1
    cut = max((size - 1) * stride + reach - wanted, 0) // 2 if same else 0
    first, last = cut // stride, (cut + wanted - 1) // stride
    taps = -(-kernel // stride)
    pad = (taps - 1) * dilation - first, last - (size - 1)
    return Geometry(taps, pad, (cut - stride * first, stride * (last + 1) - cut - wanted))


def weights_of_places(kernel: np.ndarray, strides: tuple[int, int]) -> np.ndarray:
    """[h, w, M, C] -> [J_h, J_w, C, s_h s_w M]: the kernels of the places of a block, flipped for a convolution."""
    (height, width, out, depth), (down, across) = kernel.shape, strides
    taps = -(-height // down), -(-width // across)
    padded = np.zeros((taps[0] * down, taps[1] * across, out, depth), kernel.dtype)
    padded[:height, :width] = kernel
    places = padded.reshape(taps[0], down, taps[1], across, out, depth)[::-1, :, ::-1]
    return places.transpose(0, 2, 5, 1, 3, 4).reshape(*taps, depth, down * across * out)


class Transposed:
    """The rules for such layers in one model: `(layer) -> what is called instead`, or None.

    A batch norm and a ReLU behind one stand before DEPTH_TO_SPACE, so that they are fused into the convolution.
    """

    def __init__(self, rewriting: Rewriting):
        self.rewriting, self.graph = rewriting, rewriting.graph
        self.needed = any(self._is_one(node.layer) for node in self.graph.nodes)
        self.behind = {id(node.layer): self._taken_in(node) for node in self.graph.nodes if self._is_one(node.layer)}
        self.gone = [layer for layers in self.behind.values() for layer in layers]

    def __call__(self, layer: keras.layers.Layer) -> Call | None:
        if any(layer is one for one in self.gone):
            return nothing
        return self._rewrite(layer) if self._is_one(layer) else None

    def _is_one(self, layer: Any) -> bool:
        first = getattr(layer, "data_format", None) == "channels_first"
        return type(layer) is L.Conv2DTranspose and not first and layer.name in self.rewriting.quantized

    def _taken_in(self, node: Any) -> list[Any]:
        """The batch norm and the ReLU that alone read what a linear layer computes."""
        found: list[Any] = []
        reader = self.graph.only_reader(node)
        if roles.activation_name(node.layer.activation) != "linear" or not self._once(node):
            return found
        if reader is not None and self._once(reader) and batch_norm.is_batch_norm(reader.layer):
            if batch_norm.over_channels(reader.layer, 4):
                found.append(reader.layer)
                reader = self.graph.only_reader(reader)
        if reader is not None and self._once(reader) and not roles.is_function_layer(reader.layer):
            found += [reader.layer] if channels.crossing(reader.layer) in ("relu", "relu6") else []
        return found

    def _once(self, node: Any) -> bool:
        return len(self.graph.calls(node.layer)) == 1 and node.layer.name in self.rewriting.quantized

    def _rewrite(self, layer: Any) -> Call:
        (down, across), fused = layer.strides, roles.fused_activation(layer)
        new = L.Conv2D(
            layer.filters * down * across,
            [-(-k // s) for k, s in zip(layer.kernel_size, layer.strides, strict=True)],
            dilation_rate=layer.dilation_rate,
            use_bias=layer.use_bias,
            activation=layer.activation if fused else None,
            kernel_regularizer=layer.kernel_regularizer,
            name=layer.name,
        )
        new.trainable = layer.trainable
        self.rewriting.comes_from(layer, "transposed convolution, as one to all places of a block")
        self.rewriting.later(lambda: new.set_weights(_weights(layer)))
        behind = [self._widened(one, down * across) for one in self.behind[id(layer)]]
        last = None if fused else self._activation(layer)
        calls = iter(range(1, 1 + len(self.graph.calls(layer))))

        def call(x: Any, **_: Any) -> Any:
            y = self._blocks(layer, x, [new, *behind], f"_{next(calls)}")
            return y if last is None else last(y)

        return call

    def _activation(self, layer: Any) -> Any:
        name = f"{layer.name}_{roles.activation_name(layer.activation)}"
        self.rewriting.comes_from(layer, "activation, split off", name)
        return L.Activation(layer.activation, name=name)

    def _widened(self, layer: Any, places: int) -> Any:
        """A layer behind the convolution, for the channels of all places."""
        if not batch_norm.is_batch_norm(layer):
            return self.rewriting.copied(layer)
        new = L.BatchNormalization.from_config({**layer.get_config(), "axis": -1})
        new.trainable = layer.trainable
        self.rewriting.comes_from(layer, "before the places of a block are put beside each other")
        self.rewriting.later(lambda: new.set_weights([np.tile(w, places) for w in layer.get_weights()]))
        return new

    def _blocks(self, layer: Any, x: Any, inside: list[Any], ending: str) -> Any:
        """Padding, the convolution and what is behind it, the places beside each other, cropping."""
        wanted = layer.compute_output_shape(x.shape)[1:3]
        same = layer.padding == "same"
        axes = [
            geometry(k, s, d, same, size, want)
            for k, s, d, size, want in zip(
                layer.kernel_size, layer.strides, layer.dilation_rate, x.shape[1:3], wanted, strict=True
            )
        ]
        pad, crop = (tuple(getattr(axis, what) for axis in axes) for what in ("pad", "crop"))
        if pad != ((0, 0), (0, 0)):
            x = self._new(layer, L.ZeroPadding2D(pad, name=f"{layer.name}_pad{ending}"))(x)
        for one in inside:
            x = one(x)
        x = self._beside(layer, x, ending)
        if crop == ((0, 0), (0, 0)):
            return x
        return self._new(layer, L.Cropping2D(crop, name=f"{layer.name}_crop{ending}"))(x)

    def _beside(self, layer: Any, x: Any, ending: str) -> Any:
        (down, across), (height, width) = layer.strides, x.shape[1:3]
        if down == across:
            if down == 1:
                return x
            y = tf.nn.depth_to_space(x, down)
            self.rewriting.comes_from(layer, "places of a block beside each other", y._keras_history.layer.name)
            return y
        if down > 1:
            rows = L.Reshape((height, width, down, across * layer.filters), name=f"{layer.name}_rows{ending}")
            order = L.Permute((1, 3, 2, 4), name=f"{layer.name}_order{ending}")
            x = self._new(layer, order)(self._new(layer, rows)(x))
        shape = (height * down, width * across, layer.filters)
        return self._new(layer, L.Reshape(shape, name=f"{layer.name}_beside{ending}"))(x)

    def _new(self, layer: Any, new: Any) -> Any:
        self.rewriting.comes_from(layer, "transposed convolution: moves values", new.name)
        return new


def _weights(layer: Any) -> list[np.ndarray]:
    kernel, *bias = layer.get_weights()
    places = int(np.prod(layer.strides))
    return [weights_of_places(kernel, layer.strides), *(np.tile(b, places) for b in bias)]
