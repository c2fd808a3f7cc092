"""Freezing parts of quantized layers: which weights of a wrapper train, and in which order they are listed.

Keras keeps two lists of variables per layer, trainable ones and others, and tfmot's wrapper has lists of its own beside
those of the layer inside (`wrapping.trainable` makes it keep Keras' rule). The order in these lists is the
order in files, so it depends on nothing but the order in which the layer was built and on what is frozen.
"""

from typing import Any

from keras_dbq.compat import QuantizeWrapper, keras
from keras_dbq.wrapping import lookup
from keras_dbq.wrapping.trainable import INNER_FROZEN

_BUILT = "_weights_as_built"


class _BuildOrder:
    """(trainable, other) variables of a layer, and of the layer inside, as they were when nothing was frozen."""

    def __init__(self, layer: keras.layers.Layer):
        inner = lookup.inner(layer)
        self.outer = list(layer._trainable_weights), list(layer._non_trainable_weights)
        self.inner = list(inner._trainable_weights), list(inner._non_trainable_weights)


def freeze(
    q_model: keras.Model,
    weights: bool = False,
    scales: bool = False,
    ranges: bool = False,
    batch_norm: bool = False,
    layers: Any = None,
) -> keras.Model:
    """Freezes parts of the quantized layers, for real: they leave `trainable_weights` and no step changes them.

    Args:
      weights: kernels (and biases) of quantized layers.
      scales: branch scales, thresholds, pre and post scales.
      ranges: activation ranges, and the factors that train them.
      batch_norm: batch norm layers run with their moving statistics and do not train.
      layers: names of (plain) layers to freeze in; None for all.

    Returns:
      The same model, changed in place; compile it again before fit. Freezing survives saving and loading.

    Raises:
      ValueError: nothing chosen, or an unknown layer name.
    """
    lookup.check_quantized(q_model, "freeze")
    asked = {"weights": weights, "scales": scales, "ranges": ranges}
    parts = {part for part, on in asked.items() if on}
    if not parts and not batch_norm:
        raise ValueError("freeze: expected at least one of weights, scales, ranges, batch_norm to be True, got none")
    for layer in _chosen(q_model, layers):
        if batch_norm and isinstance(lookup.inner(layer), keras.layers.BatchNormalization):
            lookup.inner(layer).trainable = False  # the ranges that the wrapper carries go on
            object.__setattr__(layer, INNER_FROZEN, True)
        _freeze_parts(layer, parts)
    _forget_compiled(q_model)
    return q_model


def _chosen(q_model: keras.Model, names: Any) -> list[keras.layers.Layer]:
    """The layers of these names (one, several, or None for all)."""
    everything = {lookup.inner(layer).name: layer for layer in lookup.all_layers(q_model)}
    if names is None:
        return list(everything.values())
    chosen = [names] if isinstance(names, str) else list(names)
    if unknown := set(chosen) - set(everything):
        raise ValueError(f"freeze: expected names of layers, got unknown {sorted(unknown)}")
    return [layer for name, layer in everything.items() if name in chosen]


def _freeze_parts(layer: keras.layers.Layer, parts: set[str]) -> None:
    for quantizer in _quantizers(layer):
        quantizer.frozen = tuple(sorted({*quantizer.frozen, *parts} & {*quantizer.parts}))
    if isinstance(layer, QuantizeWrapper) or lookup.quantized_output(layer):
        _arrange(layer)


def _quantizers(layer: keras.layers.Layer) -> list[Any]:
    """The quantizers of a layer that keep a record of what is frozen."""
    found = [weight.quantizer for weight in lookup.quantized_weights(layer)]
    output = lookup.quantized_output(layer)
    return [q for q in [*found, *([output.quantizer] if output else [])] if hasattr(q, "frozen")]


def freeze_once(layer: keras.layers.Layer) -> None:
    """Freezes what a loaded layer's quantizers say is frozen; at its first call, when all its variables exist."""
    if not hasattr(layer, _BUILT) and any(quantizer.frozen for quantizer in _quantizers(layer)):
        _arrange(layer)


def _arrange(layer: keras.layers.Layer) -> None:
    """Sorts the weights of a layer, and of the one inside, from the order they were built in and from what is frozen.

    What is frozen stands behind the other weights that do not train, ranges first, as they were built. A kernel and the
    quantizers' variables are listed by the wrapper; what the inner layer has beside (a bias) trains in the wrapper's
    list and is frozen in its own, because h5 files take no name twice.
    """
    if not hasattr(layer, _BUILT):
        object.__setattr__(layer, _BUILT, _BuildOrder(layer))  # past Keras, which would track the lists
    built, inner = getattr(layer, _BUILT), lookup.inner(layer)
    kernels = {id(weight.variable) for weight in lookup.quantized_weights(layer)}
    held = {} if inner is layer else {id(v): v for v in built.inner[0] if id(v) not in kernels}
    frozen = _frozen(layer, held)
    # A batch norm that does not train alone lists its own.
    alone = getattr(layer, INNER_FROZEN, False) or (layer.trainable and not inner.trainable)
    elsewhere = set(held) if alone else set()
    moved = {id(v): v for v in built.outer[0] if id(v) in frozen and id(v) not in held}
    order = sorted(moved, key=lambda key: frozen[key] != "ranges")  # stable
    layer._trainable_weights[:] = [v for v in built.outer[0] if id(v) not in frozen and id(v) not in elsewhere]
    layer._non_trainable_weights[:] = built.outer[1] + [moved[key] for key in order]
    if inner is not layer:
        inner._trainable_weights[:] = [v for key, v in held.items() if key not in frozen]
        inner._non_trainable_weights[:] = built.inner[1] + [v for key, v in held.items() if key in frozen]
    for variable in [*moved.values(), *(v for key, v in held.items() if key in frozen)]:
        _mark(variable)


def _frozen(layer: keras.layers.Layer, held: dict[int, Any]) -> dict[int, str]:
    """{id of a variable: the part that it is frozen with}; held: of the inner layer beside its kernels."""
    frozen: dict[int, str] = {}
    for variable, quantizer, variables in lookup.quantized_weights(layer):
        parts = getattr(quantizer, "frozen", ())
        if "weights" in parts:
            frozen |= dict.fromkeys([id(variable), *held], "weights")
        if "scales" in parts:
            frozen |= dict.fromkeys(map(id, variables.values()), "scales")
    output = lookup.quantized_output(layer)
    if output is not None and "ranges" in getattr(output.quantizer, "frozen", ()):
        frozen |= dict.fromkeys(map(id, output.variables.values()), "ranges")
    return frozen


def _mark(variable: Any) -> None:
    """Says that a variable does not train: when a .keras file is loaded, Keras sorts what a layer tracks by this."""
    variable._trainable = False
    # In mixed precision and under a distribution strategy it is the variables inside that are asked.
    for inside in (getattr(variable, "_variable", None), *getattr(variable, "_values", ())):
        if inside is not None:
            _mark(inside)


def _forget_compiled(model: keras.Model) -> None:
    """Traced functions hold the old choice of trainable variables."""
    model.train_function = model.test_function = model.predict_function = None
