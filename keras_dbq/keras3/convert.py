"""`from_keras3`: a Keras 3 graph, call by call, on tf_keras tensors."""

from typing import Any

import numpy as np

from keras_dbq._checks import number
from keras_dbq.compat import keras, tf
from keras_dbq.keras3 import layers, operations, weights
from keras_dbq.keras3.compare import Converted, compare
from keras_dbq.keras3.detect import function_of, is_keras3, nodes
from keras_dbq.keras3.missing import Missing, NoCounterpart, NotConverted, obstacle

L = keras.layers
TOLERANCE = 1e-5  # choice: some thirty times what the layers of keras.applications differ by


def convert(model: Any, tolerance: float = TOLERANCE) -> keras.Model:
    """The tf_keras model of a Keras 3 model object; see `from_keras3`."""
    if not is_keras3(model):
        raise TypeError(f"from_keras3: expected a Keras 3 model or the path of its file, got {type(model).__name__}")
    number("tolerance", tolerance, 0, 1)
    walk = _Walk(float32=True)
    result = walk.run(model)
    for converted in walk.converted:
        compare(converted, tolerance)
    return _Walk(float32=False).run(model) if walk.lower_precision else result


class _Walk:
    """One conversion. A layer that is called several times is converted once.

    float32: layers of lower precision compute in float32, for the comparison.
    """

    def __init__(self, float32: bool):
        self.float32 = float32
        self.missing = Missing()
        self.converted: list[Converted] = []
        self.lower_precision = False
        self._made: dict[int, Any] = {}
        self._pairs: list[tuple[Any, Any]] = []

    def run(self, model: Any) -> keras.Model:
        """The whole model, with its weights."""
        try:
            result = self._model(model)
        except NoCounterpart as error:
            raise NotConverted(f"from_keras3: model {model.name!r}: {error}", [obstacle(model, error)]) from None
        self.missing.check(model)
        for old, new in self._pairs:
            try:
                weights.copy(old, new)
            except NoCounterpart as error:
                self.missing.add(old, error)
        self.missing.check(model)
        return result

    def _model(self, model: Any) -> Any:
        """A tf_keras model; None where there are obstacles in it."""
        function, before = function_of(model), len(self.missing.found)
        values = {id(tensor): _input(tensor) for tensor in function.inputs}
        sequential = self._sequential(model, function, values)
        if sequential is None:
            for node in nodes(function):
                self._call(node, values)
        if len(self.missing.found) > before:
            return None
        self.converted.append(Converted(function, values))
        new = sequential or keras.Model(
            *(_mapped(s, values) for s in (function.input, function.output)), name=model.name
        )
        new._trainable = model.trainable  # of the model alone: its layers have flags of their own
        return new

    def _sequential(self, model: Any, function: Any, values: dict[int, Any]) -> Any:
        """A Sequential model where the Keras 3 model is one and every layer of it has one layer as its counterpart."""
        if not hasattr(model, "_functional"):
            return None
        made = [self._try(node.operation) for node in nodes(function)]
        if not made or not all(isinstance(new, L.Layer) for new in made):
            return None
        new = keras.Sequential([_input_layer(function.inputs[0])], name=model.name)
        values[id(function.inputs[0])] = new.inputs[0]
        for node, layer in zip(nodes(function), made, strict=True):
            try:
                new.add(layer)
            except Exception as error:  # whatever tf_keras says to it
                self.missing.add(node.operation, error)
                break
            values[id(node.outputs[0])] = new.outputs[0]
        return new

    def _try(self, operation: Any) -> Any:
        """The counterpart; None, and the obstacle noted, where there is none."""
        try:
            return self._counterpart(operation)
        except NoCounterpart as error:
            self.missing.add(operation, error)
            return None

    def _call(self, node: Any, values: dict[int, Any]) -> None:
        """Calls the counterpart, or lets new inputs stand for its outputs, so that the walk finds all obstacles."""
        outputs = None
        try:
            outputs = self._outputs(node, values)
        except Exception as error:  # whatever tf_keras says to the call
            self.missing.add(node.operation, error)
        if outputs is None:
            outputs = [keras.Input(batch_shape=t.shape, dtype=t.dtype) for t in node.outputs]
        values.update({id(old): new for old, new in zip(node.outputs, outputs, strict=True)})

    def _outputs(self, node: Any, values: dict[int, Any]) -> Any:
        args, kwargs = _mapped((node.arguments.args, node.arguments.kwargs), values)
        if not hasattr(node.operation, "weights"):
            return tf.nest.flatten(operations.call(node.operation, *args, **kwargs))
        new = self._counterpart(node.operation)
        # Keras 3 notes training=True for every random layer, and lets predict and fit overrule it.
        kwargs = {name: v for name, v in kwargs.items() if v is not None and (name, v) != ("training", True)}
        return None if new is None else tf.nest.flatten(new(*args, **kwargs))

    def _counterpart(self, layer: Any) -> Any:
        """What is called in place of a Keras 3 layer or model; None for a model with obstacles in it."""
        if id(layer) not in self._made:
            self._made[id(layer)] = self._convert(layer)
        return self._made[id(layer)]

    def _convert(self, layer: Any) -> Any:
        if is_keras3(layer):
            return self._model(layer)
        self.lower_precision |= layer.dtype_policy.compute_dtype in ("bfloat16", "float16")
        new = layers.counterpart(layer, layers.Convert(self._counterpart, self._inside, self.float32))
        if layer.weights:
            self._pairs.append((layer, getattr(new, "layer", new) if not isinstance(new, L.Layer) else new))
        return new

    def _inside(self, layer: Any) -> Any:
        """The counterpart of a layer inside of a layer, which copies its weights and is compared as a whole."""
        walk = _Walk(self.float32)
        new = walk._counterpart(layer)
        self.lower_precision |= walk.lower_precision
        self.missing.found.update(walk.missing.found)
        return new


def _mapped(structure: Any, values: dict[int, Any]) -> Any:
    """Arguments of a call with tf_keras tensors in place of Keras 3's, and numpy arrays in place of constants."""
    return tf.nest.map_structure(
        lambda value: values[id(value)] if id(value) in values else _constant(value), structure
    )


def _constant(value: Any) -> Any:
    if type(value).__module__.startswith("keras.src.backend") and hasattr(value, "assign"):
        raise NoCounterpart("it reads a variable that belongs to no layer; make it a layer's weight, or a constant")
    return np.asarray(value) if hasattr(value, "__array__") and getattr(value, "shape", None) is not None else value


def _input(tensor: Any) -> Any:
    layer = tensor._keras_history.operation
    if getattr(layer, "optional", False) or getattr(layer, "sparse", False):
        raise NoCounterpart(f"its input {layer.name!r} is optional or sparse; give it a plain keras.Input")
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=layer.name)


def _input_layer(tensor: Any) -> keras.layers.Layer:
    name = tensor._keras_history.operation.name
    return L.InputLayer(batch_input_shape=tensor.shape, dtype=tensor.dtype, name=name)
