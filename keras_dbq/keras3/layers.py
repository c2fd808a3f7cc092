"""A Keras 3 layer's counterpart: a tf_keras layer of the same name, built from the Keras 3 layer's config."""

import inspect
from typing import Any, NamedTuple

from keras_dbq.compat import APPLICATION_LAYERS, keras
from keras_dbq.keras3 import activations, table
from keras_dbq.keras3.activations import Call
from keras_dbq.keras3.detect import is_builtin
from keras_dbq.keras3.missing import NoCounterpart

L = keras.layers
_SERIALIZED = {"initializer": keras.initializers, "regularizer": keras.regularizers, "constraint": keras.constraints}
_REBUILD = "write it with keras.layers and keras.ops on tensors, or build the network with tf_keras"


class Convert(NamedTuple):
    """How parts of a layer are converted.

    layer: Keras 3 layer or model -> what is called for it.  inside: the same for a layer inside of a layer, whose
    weights are copied with the outer one's.  float32: layers compute in float32 where their policy says less.
    """

    layer: Call
    inside: Call
    float32: bool


def counterpart(layer: Any, convert: Convert) -> Call:
    """What is called on tf_keras tensors in place of a Keras 3 layer that is no model: mostly a layer of the same name.

    Raises:
      NoCounterpart: tf_keras lacks the layer, or one of its options.
    """
    if not is_builtin(layer):
        raise NoCounterpart(f"a class of {type(layer).__module__}, which tf_keras does not know; {_REBUILD}")
    if type(layer).__name__ == "CustomScaleLayer":  # of InceptionResNetV2
        add, scaled = L.Add(name=layer.name), L.Rescaling(layer.scale, name=f"{layer.name}_scale")
        return lambda x: add([x[0], scaled(x[1])])
    dtype = _policy(layer, convert.float32)
    if type(layer).__name__ == "Lambda":
        options = {"mask": layer.mask, "arguments": layer.arguments, "dtype": dtype}
        return activations.python_function(layer.function, layer.name, **options)
    return _rebuilt(layer, _class_of(layer), dtype, convert)


def _class_of(layer: Any) -> type:
    name = type(layer).__name__
    if name in table.LAYERS:
        return getattr(L, name)
    if name in APPLICATION_LAYERS:
        return APPLICATION_LAYERS[name]
    raise NoCounterpart(table.WHY_NOT.get(name, f"tf_keras has no such layer; {_REBUILD}"))


def _rebuilt(layer: Any, cls: type, dtype: str, convert: Convert) -> Call:
    """The layer, and behind it the activation where tf_keras does not have it by name."""
    options, known = _known_options(layer, cls), activations.name_of(getattr(layer, "activation", None))
    split = "activation" in options and known not in table.ACTIVATIONS
    if split and hasattr(layer, "recurrent_activation"):
        activations.same_name(layer.activation, "activation")
    if split and type(layer).__name__ == "Activation":
        return activations.call(layer.activation, layer.name, convert.layer)
    if split:
        options["activation"] = "linear"
    new = cls(**{key: _value(layer, key, options[key], convert) for key in options}, name=layer.name, dtype=dtype)
    return _followed(new, layer, known, convert) if split else new


def _followed(new: Any, layer: Any, known: str, convert: Convert) -> Call:
    """`new`, then the activation of `layer`."""
    name = known or getattr(layer.activation, "name", "activation")
    after = activations.call(layer.activation, f"{layer.name}_{name}", convert.layer)

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
    return (tuple(value) if isinstance(value, list) else value) in table.INERT.get(key, ())


def _accepted(cls: type) -> set[str]:
    """Names of the options that a tf_keras layer takes: of its constructor, and of those that **kwargs go to."""
    found = {"trainable", "activity_regularizer"} | ({"zero_output_for_mask"} if issubclass(cls, L.RNN) else set())
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


def _value(layer: Any, key: str, value: Any, convert: Convert) -> Any:
    """An option's value for tf_keras."""
    inside = table.INSIDE.get(type(layer).__name__, {})
    if key in inside:
        return _inside(getattr(layer, inside[key]), convert)
    if key == "recurrent_activation":
        return activations.same_name(layer.recurrent_activation, key)
    ending = key.rpartition("_")[2]
    if ending in _SERIALIZED:
        return _object(value, key, _SERIALIZED[ending])
    if key == "activation":
        return "linear" if value == "linear" else activations.name_of(layer.activation)
    if key == "seed":
        return value if isinstance(value, int) else None
    if isinstance(value, dict):
        raise NoCounterpart(f"its option {key} is {value!r}, which cannot be read; {_REBUILD}")
    return value


def _inside(old: Any, convert: Convert) -> Any:
    """The layer, or the layers, inside of a layer."""
    if isinstance(old, (list, tuple)):
        return [_inside(part, convert) for part in old]
    new = convert.inside(old)
    if not isinstance(new, L.Layer):
        raise NoCounterpart(f"{old.name!r} inside of it is no single layer in tf_keras; put its activation outside")
    return new


def _object(value: Any, key: str, module: Any) -> Any:
    """tf_keras' initializer, regularizer or constraint of the same name.

    An initializer without a counterpart becomes zeros: the weights are copied over its values.
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
