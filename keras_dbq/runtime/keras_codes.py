"""The quantized activations of a Keras model as int8 codes, by the names of the file's tensors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from keras_dbq.compat import keras, tf
from keras_dbq.network import graph
from keras_dbq.reference import Engine
from keras_dbq.tflite.names import layer_of
from keras_dbq.wrapping import naming
from keras_dbq.wrapping.precision import in_float32

_Key = tuple[str, float, int]  # layer's name, scale, zero point


class Match(NamedTuple):
    """A quantized activation of Keras, and the tensor of the file that it is.

    names: of the tensors of the file that it may be, the likeliest first: those of one layer on one grid, for instance
      of the calls of a shared layer, or before and behind a transposition.
    """

    names: tuple[str, ...]
    keras: naming.QuantizedOutput

    @property
    def name(self) -> str:
        """The likeliest."""
        return self.names[0]

    def to_codes(self, real: np.ndarray) -> np.ndarray:
        """int32 codes of numbers on the grid."""
        return to_codes(real, self.keras.scale, self.keras.zero_point)

    def to_real(self, codes: np.ndarray) -> np.ndarray:
        """float32 numbers of codes, as Keras' fake-quant writes them."""
        return (codes.astype(np.float32) - np.float32(self.keras.zero_point)) * self.keras.scale


def roundings(engine: Engine) -> dict[str, int]:
    """{tensor of the file: by how many codes Keras may differ}, where that is more than one.

    derived: AVERAGE_POOL_2D and RESIZE_BILINEAR have to keep their input's scale, so an average on a grid of its own is
    rounded twice, to steps of s_in and of s_out: by at most s_in / (2 s_out) codes more than once.
    """
    tensors, operators = engine.model.tensors, engine.model.operators
    pooled = {index for o in operators if o.name in ("AVERAGE_POOL_2D", "RESIZE_BILINEAR") for index in o.outputs}
    found = {}
    for operator in operators:
        if operator.name == "QUANTIZE" and operator.inputs[0] in pooled:
            source, target = tensors[operator.inputs[0]], tensors[operator.outputs[0]]
            found[target.name] = 1 + math.ceil(0.5 * float(source.scale) / float(target.scale))
    return found


class KerasRun(NamedTuple):
    """What Keras computed from one batch."""

    codes: dict[str, np.ndarray]  # by the file's tensor names, int32
    outputs: list[np.ndarray]  # float32


NOTHING = KerasRun({}, [])


def to_codes(real: np.ndarray, scale: np.float32, zero_point: int) -> np.ndarray:
    """int32 codes of numbers that lie on a grid already (but for float32 rounding)."""
    return (np.rint(real.astype(np.float64) / np.float64(scale)) + zero_point).astype(np.int32)


class KerasCodes:
    """A quantized Keras model beside its file.

    Keras computes in float32, also where the model trains in mixed precision.

    `missing` names what Keras quantizes and the file does not have under that name on that grid (the converter joined
    it with a neighbour). `changed` names those of them whose grid no tensor of the file has: another model's.
    """

    def __init__(self, q_model: keras.Model, engine: Engine):
        self.model = in_float32(q_model)
        outputs = naming.quantized_outputs(self.model)
        matches, self.missing = _match(outputs, engine)
        grids = {key[1:] for key in _tensors_by_key(engine)} | set(engine.grids_behind_thresholds)
        self.changed = [o.name for o in outputs if _key(o.name, o.scale, o.zero_point)[1:] not in grids]
        inputs = {tensor.name for tensor in engine.inputs}
        self._by_node = {id(match.keras.node): match for match in matches}
        self._inputs = [match for match in matches if match.name in inputs]
        self._free = keras.Model(self.model.inputs, [match.keras.tensor for match in self._inputs] + self.model.outputs)

    def run(self, batch: list[np.ndarray]) -> KerasRun:
        """The model on its own; codes of its inputs."""
        results = self._free(batch if len(batch) > 1 else batch[0], training=False)
        values = [value.numpy() for value in (results if isinstance(results, list) else [results])]
        codes: dict[str, np.ndarray] = {}
        for match, value in zip(self._inputs, values, strict=False):
            codes.setdefault(match.name, match.to_codes(value))
        return KerasRun(codes, values[len(self._inputs) :])

    def run_by_layer(self, batch: list[np.ndarray], file_codes: dict[str, np.ndarray]) -> KerasRun:
        """Each layer on the file's codes of its inputs; codes of every quantized activation that the file has."""
        exchange = _Exchange(self._by_node, file_codes)
        layers = _in_order_of_calls(self.model, exchange)
        outputs = graph.replay(self.model, [tf.constant(x) for x in batch], layers)
        return KerasRun(exchange.codes, [output.numpy() for output in tf.nest.flatten(outputs)])


def _match(outputs: list[naming.QuantizedOutput], engine: Engine) -> tuple[list[Match], list[str]]:
    """(what the file has, names of what it has not).

    A layer may own several tensors of the file: `pool`, and `pool#2` behind it on another grid, or one for each call of
    a shared layer. One with the Keras quantizer's grid is meant, and among those of several calls, which have equal
    grids, they mostly follow each other as the calls do; `_Exchange` takes the one that the layer computed.
    """
    in_file, seen = _tensors_by_key(engine), Counter[_Key]()
    calls = Counter(_key(output.name, output.scale, output.zero_point) for output in outputs)
    matches, missing = [], []
    for output in outputs:
        key = _key(output.name, output.scale, output.zero_point)
        names = in_file.get(key, [])
        if names:
            first = names[seen[key] * len(names) // calls[key]]
            matches.append(Match((first, *(name for name in names if name != first)), output))
        else:
            missing.append(output.name)
        seen[key] += 1
    return matches, missing


def _key(name: str, scale: Any, zero_point: Any) -> _Key:
    return layer_of(name), float(np.float32(scale)), int(zero_point)


def _tensors_by_key(engine: Engine) -> dict[_Key, list[str]]:
    """{(layer's name, scale, zero point): tensors of the file, in the order in which they are computed}."""
    found: dict[_Key, list[str]] = {}
    computed = [index for operator in engine.model.operators for index in operator.outputs]
    for index in dict.fromkeys([*engine.model.inputs, *computed]):
        tensor = engine.model.tensors[index]
        if tensor.quantization is not None and tensor.quantization.scale.size == 1:
            key = _key(tensor.name, tensor.scale, tensor.zero_point)
            found.setdefault(key, []).append(tensor.name)
    return found


class _Exchange:
    """Takes the codes of what a layer computed, and hands the file's numbers on in its place."""

    def __init__(self, by_node: dict[int, Match], file_codes: dict[str, np.ndarray]):
        self.by_node, self.file_codes = by_node, file_codes
        self.codes: dict[str, np.ndarray] = {}

    def __call__(self, node: Any, value: Any) -> Any:
        """What the readers of a node get instead of `value`; the same where the file has no such tensor."""
        match = self.by_node.get(id(node))
        if match is None or match.name not in self.file_codes:
            return value
        codes = match.to_codes(value.numpy())
        name = self._chosen(match, codes)
        self.codes.setdefault(name, codes)
        file_codes = self.file_codes[name]
        if file_codes.size != codes.size:
            return value  # `verify` says so
        return tf.constant(match.to_real(file_codes).reshape(value.shape))

    def _chosen(self, match: Match, codes: np.ndarray) -> str:
        """The tensor that the layer computed: the nearest. One that computes something else is far from all of them.

        One tensor may be that of two calls, where a layer was called twice on one tensor.
        """
        alike = [n for n in match.names if n in self.file_codes and self.file_codes[n].size == codes.size]
        if len(alike) < 2:
            return (alike or [match.name])[0]

        def distance(name: str) -> tuple[float, bool]:
            return float(np.abs(self.file_codes[name].ravel() - codes.ravel()).mean()), name in self.codes

        return min(alike, key=distance)


def _in_order_of_calls(model: keras.Model, exchange: _Exchange) -> Callable[[Any], Callable[..., Any]]:
    """For `graph.replay`: a layer -> the layer with `exchange` behind each of its calls, the nodes in their order."""
    nodes = graph.nodes(model)

    def replace(layer: Any) -> Callable[..., Any]:
        calls = iter([node for node in nodes if node.layer is layer])
        inference = {"training": False} if layer._expects_training_arg else {}
        return lambda *args, **kwargs: exchange(next(calls), layer(*args, **{**kwargs, **inference}))

    return replace
