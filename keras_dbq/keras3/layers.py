"""A Keras 3 layer's counterpart: a tf_keras layer of the same name, built from the Keras 3 layer's config."""

import inspect
from typing import Any

from keras_dbq.compat import APPLICATION_LAYERS, keras
from keras_dbq.keras3 import activations, table
from keras_dbq.keras3.activations import Call
from keras_dbq.keras3.detect import is_builtin
from keras_dbq.keras3.obstacles import NoCounterpart

L = keras.layers
_SERIALIZED = {"initializer": keras.initializers, "regularizer": keras.regularizers, "constraint": keras.constraints}
_REBUILD = "write it with keras.layers and keras.ops on tensors, or build the network with tf_keras"


def counterpart(layer: Any, float32: bool, convert: Call) -> Call:
    """What is called on tf_keras tensors in place of a Keras 3 layer: mostly a layer of the same name.

    Args:
      layer: of Keras 3; no model.
      float32: whether the new layer computes in float32 whatever the old one's policy is.
      convert: Keras 3 layer or model -> what is called for it; for layers inside of layers.

    Raises:
      NoCounterpart: tf_keras lacks the layer, or one of its options.
    """
    if not is_builtin(layer):
        raise NoCounterpart(f"a class of {type(layer).__module__}, which tf_keras does not know; {_REBUILD}")
    if type(layer).__name__ == "CustomScaleLayer":  # of InceptionResNetV2
        return lambda x: L.Add(name=layer.name)([x[0], L.Rescaling(layer.scale, name=f"{layer.name}_scale")(x[1])])
    if type(layer).__name__ == "Lambda":
        options = {"mask": layer.mask, "arguments": layer.arguments, "dtype": _policy(layer, float32)}
        return activations.python_function(layer.function, layer.name, **options)
    return _from_config(layer, _class_of(layer), float32, convert)


def _class_of(layer: Any) -> type:
    name = type(layer).__name__
    if name in table.LAYERS:
        return getattr(L, name)
    if name in APPLICATION_LAYERS:
        return APPLICATION_LAYERS[name]
    raise NoCounterpart(table.WHY_NOT.get(name, f"tf_keras has no such layer; {_REBUILD}"))


def _from_config(layer: Any, cls: type, float32: bool, convert: Call) -> Call:
    """The layer, and behind it the activation where tf_keras does not have it by name."""
    config, known = _known_options(layer, cls), activations.name_of(getattr(layer, "activation", None))
    split = "activation" in config and known not in table.ACTIVATIONS
    if split and hasattr(layer, "recurrent_activation"):
        activations.same_name(layer.activation, "activation")
    if split and type(layer).__name__ == "Activation":
        return activations.call(layer.activation, layer.name, convert)
    for key in config:
        config[key] = _value(layer, key, config[key], convert)
    if split:
        config["activation"] = "linear"
    new = cls.from_config({**config, "name": layer.name, "dtype": _policy(layer, float32)})
    return _followed(new, layer, known, convert) if split else new


def _followed(new: Any, layer: Any, known: str, convert: Call) -> Call:
    """`new`, then the activation of `layer`."""
    name = known or getattr(layer.activation, "name", "activation")
    after = activations.call(layer.activation, f"{layer.name}_{name}", convert)

    def call(*args: Any, **kwargs: Any) -> Any:
        return after(new(*args, **kwargs))

    call.layer = new  # type: ignore[attr-defined]  # where the weights go
    return call


def _known_options(layer: Any, cls: type) -> dict[str, Any]:
    """The options that tf_keras' layer takes, under its names.

    Raises NoCounterpart for one that it does not take, unless it has the value at which it changes nothing.
    """
    name, accepted, options = type(layer).__name__, _accepted(cls), {}
    for key, value in layer.get_config().items():
        key = table.RENAMED.get((name, key), key)
        if key in accepted and key not in ("name", "dtype"):
            options[key] = value
        elif key not in table.IGNORED and not _is_inert(key, value):
            raise NoCounterpart(f"tf_keras' {name} has no option {key} (here {value!r}); leave it out, or {_REBUILD}")
    return options


def _is_inert(key: str, value: Any) -> bool:
    value = tuple(value) if isinstance(value, list) else value
    return any(type(value) is type(v) and value == v or value == v for v in table.INERT.get(key, ()))


def _accepted(cls: type) -> set[str]:
    """Names of the options that a tf_keras layer takes: of its constructor, and of those that **kwargs go to."""
    found = {"trainable", "activity_regularizer"}
    for base in cls.__mro__:
        if base is L.Layer or "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
        found.update(p.name for p in parameters)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found - {"self", "args", "kwargs"}


def _policy(layer: Any, float32: bool) -> str:
    policy = layer.dtype_policy
    if getattr(policy, "quantization_mode", None):
        raise NoCounterpart(f"it was quantized by Keras ({policy.name}); give the model as it was before quantize()")
    lower = policy.compute_dtype in ("bfloat16", "float16")
    return "float32" if float32 and lower else policy.name


def _value(layer: Any, key: str, value: Any, convert: Call) -> Any:
    """An option's value for tf_keras."""
    inside = table.INSIDE.get(type(layer).__name__, {})
    if key in inside:
        return _serialized(getattr(layer, inside[key]), convert)
    if key in ("activation", "recurrent_activation"):
        return activations.same_name(getattr(layer, key), key) if key != "activation" else _activation(layer)
    ending = key.rpartition("_")[2]
    if ending in _SERIALIZED:
        return _rebuilt(value, key, _SERIALIZED[ending])
    if key == "seed":
        return value if isinstance(value, int) else None
    if isinstance(value, dict):
        raise NoCounterpart(f"its option {key} is {value!r}, which cannot be read; {_REBUILD}")
    return value


def _activation(layer: Any) -> str:
    name = activations.name_of(layer.activation)
    return name if name in table.ACTIVATIONS else "linear"  # split off, see `_from_config`


def _serialized(inside: Any, convert: Call) -> Any:
    """Config of the layer, or the layers, inside of a layer."""
    if isinstance(inside, (list, tuple)):
        return [_serialized(part, convert) for part in inside]
    new = convert(inside)
    if not isinstance(new, L.Layer):
        raise NoCounterpart(f"the activation of {inside.name!r} inside of it has no name in tf_keras; use a layer for it")
    return L.serialize(new)


def _rebuilt(value: Any, key: str, module: Any) -> Any:
    """tf_keras' initializer, regularizer or constraint of the same name.

    An initializer without a counterpart becomes the layer's own: the weights are copied over its values.
    """
    if value is None:
        return None
    cls = getattr(module, value["class_name"], None) if isinstance(value, dict) else None
    if cls is None and module is keras.initializers:
        return "zeros"
    if cls is None:
        raise NoCounterpart(f"its {key} is {value!r}, which tf_keras does not have; leave it out")
    accepted = inspect.signature(cls).parameters
    seeded = {k: None if k == "seed" and not isinstance(v, int) else v for k, v in value["config"].items()}
    return cls(**{k: v for k, v in seeded.items() if k in accepted})
