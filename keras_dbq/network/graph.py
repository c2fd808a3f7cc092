"""A functional Keras graph: who reads whom, and rebuilding it with layers replaced, split, inserted or flattened.

`Graph` answers questions about the calls of a model. One primitive, `rebuild`, replays them in execution order;
everything that changes a graph (the rewrites, flattening of nested models, `strip`, the export graph) is a function
from a layer to what is called instead.
"""

from collections.abc import Callable
from typing import Any

from keras_dbq.compat import FUNCTION_LAYERS, QuantizeWrapper, keras, tf
from keras_dbq.network import known_shapes

Call = Callable[..., Any]


def nodes(model: keras.Model) -> list[Any]:
    """The nodes of a functional or Sequential model in execution order, input nodes left out."""
    by_depth = model._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


def consumers(model: keras.Model) -> dict[int, list[Any]]:
    """{id of a KerasTensor: nodes that read it}; a tensor that nothing reads is missing."""
    table: dict[int, list[Any]] = {}
    for node in nodes(model):
        for tensor in tf.nest.flatten(node.keras_inputs):
            table.setdefault(id(tensor), []).append(node)
    return table


def output_ids(model: keras.Model) -> set[int]:
    """Ids of the model's output KerasTensors."""
    return {id(tensor) for tensor in tf.nest.flatten(model.outputs)}


def inner(layer: keras.layers.Layer) -> keras.layers.Layer:
    """The plain Keras layer inside of tfmot's wrapper, or the layer itself."""
    return layer.layer if isinstance(layer, QuantizeWrapper) else layer


def inputs(node: Any) -> list[Any]:
    """The KerasTensors that a call reads."""
    return tf.nest.flatten(node.keras_inputs)


def output(node: Any) -> Any:
    """The (first) KerasTensor that a call computes."""
    return tf.nest.flatten(node.outputs)[0]


class Graph:
    """The calls (nodes) of a functional or Sequential model, and who reads whom. A layer may be called several times.

    Args:
      model: flat or with nested models, float or quantized.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.nodes = nodes(model)
        self._consumers = consumers(model)
        self._outputs = output_ids(model)
        self._producers = {id(tensor): node for node in self.nodes for tensor in tf.nest.flatten(node.outputs)}
        self._calls: dict[int, list[Any]] = {}
        for node in self.nodes:
            self._calls.setdefault(id(node.layer), []).append(node)

    def calls(self, layer: keras.layers.Layer) -> list[Any]:
        """The calls of a layer in this model, in order of execution."""
        return self._calls.get(id(layer), [])

    def readers(self, tensor: Any) -> list[Any]:
        """The calls that read a tensor."""
        return self._consumers.get(id(tensor), [])

    def producer(self, tensor: Any) -> Any:
        """The call that computes a tensor; None for an input of the model."""
        return self._producers.get(id(tensor))

    def is_output(self, tensor: Any) -> bool:
        """Whether the model gives this tensor as an output."""
        return id(tensor) in self._outputs

    def only_reader(self, node: Any) -> Any:
        """The one call that reads what this call computes; None where there are several, none, or it is an output."""
        readers = self.readers(output(node))
        several = len(tf.nest.flatten(node.outputs)) > 1
        return None if several or len(readers) != 1 or self.is_output(output(node)) else readers[0]

    def only_source(self, node: Any) -> Any:
        """The call whose output this call alone reads, as its first input; None if there is none."""
        source = self.producer(inputs(node)[0])
        return source if source is not None and self.only_reader(source) is node else None


def rebuild(
    model: keras.Model,
    replace: Callable[[keras.layers.Layer], Call],
    on_input: Callable[[Any, str], Any] | None = None,
    name: str | None = None,
    dtype: str | None = None,
) -> keras.Model:
    """Calls `replace(layer)` where the model called `layer`, and returns the new functional model.

    Args:
      model: functional or Sequential, built.
      replace: called once per layer; returns a new layer, or any callable on tensors. Returning the layer itself
        shares it with the new model.
      on_input: (new input tensor, input layer's name) -> tensor that the consumers read instead.
      name: of the new model.
      dtype: of inputs that are integers in the model; None leaves them so.

    Returns:
      A functional model with new Input layers of the same names, shapes and dtypes.
    """
    inputs = [
        keras.Input(
            batch_shape=tensor.shape,
            dtype=dtype if dtype and tensor.dtype.is_integer else tensor.dtype,
            name=layer.name,
        )
        for tensor, layer in zip(model.inputs, input_layers(model), strict=True)
    ]
    first = [on_input(tensor, tensor._keras_history.layer.name) if on_input else tensor for tensor in inputs]
    outputs = replay(model, first, replace)
    new_inputs = inputs if len(inputs) > 1 or isinstance(model.input, (list, tuple)) else inputs[0]
    return keras.Model(_like(model.input, new_inputs), outputs, name=name or model.name)


def _like(structure: Any, flat: Any) -> Any:
    """Packs the flat list of tensors in the structure (tensor, list, tuple or dict) of the old ones."""
    return tf.nest.pack_sequence_as(structure, tf.nest.flatten(flat))


def input_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """InputLayers in the order of model.inputs."""
    return [tensor._keras_history.layer for tensor in model.inputs]


def input_names(model: keras.Model) -> list[str]:
    """Names of the inputs in the order of model.inputs: the keys where the model takes a dict, else the layers'."""
    return list(_names(model.input, model.input_names))


def output_names(model: keras.Model) -> list[str]:
    """Names of the outputs in the order of model.outputs: the keys where the model gives a dict, else the layers'."""
    return list(_names(model.output, model.output_names))


def _names(structure: Any, layers: list[str]) -> list[str]:
    return sorted(structure) if isinstance(structure, dict) and len(structure) == len(layers) else layers


def replay(model: keras.Model, inputs: list[Any], replace: Callable[[keras.layers.Layer], Call]) -> Any:
    """The model's outputs, computed from other input tensors with `replace(layer)` called in place of each layer."""
    values = {id(old): new for old, new in zip(model.inputs, inputs, strict=True)}
    replaced: dict[int, Call] = {}
    for node in nodes(model):
        layer = node.layer
        if id(layer) not in replaced:
            replaced[id(layer)] = replace(layer)
        args, kwargs = tf.nest.map_structure(
            lambda value: values.get(id(value), value), (node.call_args, node.call_kwargs)
        )
        result = known_shapes.call(replaced[id(layer)], node, args, kwargs)
        old = tf.nest.flatten(node.outputs)
        new = tf.nest.flatten(result)
        values.update({id(a): b for a, b in zip(old, new, strict=True)})
    return tf.nest.map_structure(lambda tensor: values[id(tensor)], model.output)


def flat_copy(model: keras.Model) -> keras.Model:
    """A copy of the model with nested models spliced in and all weights copied; the model itself stays untouched.

    A layer `conv` of the nested model `backbone` keeps its name where that is free, else it becomes `backbone_conv`.
    """
    taken = {layer.name for layer in model.layers if not isinstance(layer, keras.Model)}
    copies: dict[int, Call] = {}
    pairs: list[tuple[keras.layers.Layer, keras.layers.Layer]] = []

    def copy(layer: keras.layers.Layer, parents: tuple[str, ...]) -> Call:
        if id(layer) not in copies:
            copies[id(layer)] = splice(layer, parents) if isinstance(layer, keras.Model) else copy_layer(layer, parents)
        return copies[id(layer)]

    def splice(nested: keras.Model, parents: tuple[str, ...]) -> Call:
        path = (*parents, nested.name)
        return lambda x, **_: replay(nested, tf.nest.flatten(x), lambda layer: copy(layer, path))

    def copy_layer(layer: keras.layers.Layer, parents: tuple[str, ...]) -> keras.layers.Layer:
        new = clone(layer, **({"name": unique_name(layer.name, parents)} if parents else {}))
        new.trainable = layer.trainable
        pairs.append((layer, new))
        return new

    def unique_name(name: str, parents: tuple[str, ...]) -> str:
        for candidate in (name, "_".join((*parents, name)), *(f"{name}_{k}" for k in range(1, 1000))):
            if candidate not in taken:
                break
        taken.add(candidate)
        return candidate

    result = rebuild(model, lambda layer: copy(layer, ()))
    copy_weights(pairs)
    return result


def clone(layer: keras.layers.Layer, **changed: Any) -> keras.layers.Layer:
    """A new layer with the same config, but for what is changed (weights are not copied).

    Raises:
      ValueError: a layer that cannot be made again from its config, in a phrase.
    """
    try:
        config = {**layer.get_config(), **changed}
        activation = getattr(layer, "activation", None)
        if callable(activation) and "activation" in config and "activation" not in changed:
            config["activation"] = activation  # the function itself: not every function has a name in Keras
        new = layer.__class__.from_config(config)
        new._name = changed.get("name", layer.name)  # a get_config of the user's may forget it
        return new
    except Exception as error:  # whatever a class of the user's raises
        text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise ValueError(f"{type(error).__name__}: {text[:160]}") from error


def again(layer: keras.layers.Layer) -> keras.layers.Layer:
    """What stands for a layer in a network that is built once more of the same layers.

    Raises:
      ValueError: as `clone`.
    """
    return clone(layer) if isinstance(layer, FUNCTION_LAYERS) else layer


def between(first: Any, last: Any) -> list[Any]:
    """The calls that lead from Keras tensors (in any structure, with other values) to others, in no order."""
    seen = {id(tensor) for tensor in tf.nest.flatten(first)}
    found: dict[int, Any] = {}
    todo = [tensor for tensor in tf.nest.flatten(last) if id(tensor) not in seen]
    while todo:
        tensor = todo.pop()
        seen.add(id(tensor))
        layer, index, _ = tensor._keras_history
        found[id(layer.inbound_nodes[index])] = layer.inbound_nodes[index]
        todo += [t for t in inputs(layer.inbound_nodes[index]) if id(t) not in seen]
    return list(found.values())


def copy_weights(pairs: list[tuple[keras.layers.Layer, keras.layers.Layer]]) -> None:
    """Copies weights from the first to the second of each pair."""
    for old, new in pairs:
        if old.weights:
            new.set_weights(old.get_weights())
