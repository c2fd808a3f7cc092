"""What every rewrite works with: the float graph, where new layers come from, and weights that are set at the end."""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras_dbq.compat import keras
from keras_dbq.network import graph
from keras_dbq.network.graph import Graph

Call = Callable[..., Any]


class Origin(NamedTuple):
    """Where a layer comes from.

    layer, type: of the user's model.  note: what was done, a phrase.
    affine: the layer is a factor and an offset per channel.
    """

    layer: str
    type: str
    note: str
    affine: bool = False


class Rewriting:
    """One model on its way.

    Args:
      model: flat functional or Sequential model.
      quantized: names of the layers that are to be quantized; others are copied as they are.
    """

    def __init__(self, model: keras.Model, quantized: set[str]):
        self.model, self.quantized = model, quantized
        self.graph = Graph(model)
        self.origin: dict[str, Origin] = {}  # by the name of a new layer
        self._later: list[Callable[[], None]] = []

    def copied(self, layer: keras.layers.Layer, **changed: Any) -> keras.layers.Layer:
        """A layer with the same weights, and the same config but for what is changed."""
        new = graph.clone(layer, **changed)
        new.trainable = layer.trainable
        self.later(lambda: graph.copy_weights([(layer, new)]))
        return new

    def later(self, action: Callable[[], None]) -> None:
        """Done once all new layers are built: that is when weights can be set."""
        self._later.append(action)

    def finish(self) -> None:
        """Does what was left for later."""
        for action in self._later:
            action()

    def comes_from(self, layer: keras.layers.Layer, note: str, *names: str, affine: bool = False) -> None:
        """Notes that the new layers of these names (as a rule the layer's own) stand for the user's `layer`."""
        for name in names or (layer.name,):
            self.origin[name] = Origin(layer.name, type(layer).__name__, note, affine)


def nothing(x: Any, **_: Any) -> Any:
    """What is called in place of a layer that is gone."""
    return x


def then(*layers: Any) -> Call:
    """One layer after the other; the first gets the arguments of the call."""
    first, *others = layers

    def call(*args: Any, **kwargs: Any) -> Any:
        x = first(*args, **kwargs)
        for layer in others:
            x = layer(x)
        return x

    return call
