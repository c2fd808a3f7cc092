"""Calls of Keras layers whose output shapes are known from an earlier call.

Keras runs a layer in a graph of its own, which it throws away, to learn the shapes of the outputs. In a network of 400
layers that is most of the work of rebuilding it. A layer that stands in the place of one with the same config, on
inputs of the same shapes, has the same output shapes.
"""

from typing import Any

from keras_dbq.compat import FUNCTION_LAYERS, QuantizeWrapper, keras, tf

# Of these packages of tf_keras every layer makes its variables in `build`, and gives the same shapes at every call.
_PLAIN = ("activation", "convolutional", "core", "merging", "normalization", "pooling", "regularization", "reshaping")
_PLAIN_MODULES = tuple(f"tf_keras.src.layers.{package}." for package in _PLAIN)


def call(layer: Any, node: Any, args: Any, kwargs: Any) -> Any:
    """`layer(*args, **kwargs)` in the place of the call `node`, with its output shapes where that is safe.

    Args:
      layer: a Keras layer, or any callable on Keras tensors.
      node: the earlier call, of the layer itself or of another.
      args, kwargs: the arguments of the new call, in the structure of `node.call_args` and `node.call_kwargs`.
    """
    if not (_same_layer(layer, node.layer) and _same_inputs(node, args, kwargs)):
        return layer(*args, **kwargs)

    def outputs(inputs: Any, _masks: Any, args: Any, kwargs: Any) -> Any:
        with keras.backend.name_scope(layer._name_scope()):  # variables are named by it
            layer._maybe_build(inputs)
        layer._set_save_spec(inputs, args, kwargs)
        return tf.nest.map_structure(
            lambda tensor: type(tensor)(tf.TensorSpec(tensor.shape, tensor.dtype), name=tensor.name), node.outputs
        )

    vars(layer)["_keras_tensor_symbolic_call"] = outputs  # this call's alone; not by setattr, which Keras watches
    try:
        return layer(*args, **kwargs)
    finally:
        del vars(layer)["_keras_tensor_symbolic_call"]


def _same_layer(new: Any, old: Any) -> bool:
    """Whether a layer gives outputs of the same shapes as another, and needs no run to make its variables."""
    if isinstance(new, QuantizeWrapper) and new.layer is old:
        return bool(old.built)
    if type(new) is not type(old) or getattr(new, "_activity_regularizer", None) is not None:
        return False
    if isinstance(new, (keras.Model, *FUNCTION_LAYERS)) or not type(new).__module__.startswith(_PLAIN_MODULES):
        return False
    return new is old or _equal(_config(new), _config(old))


def _config(layer: Any) -> dict[str, Any]:
    return {key: value for key, value in layer.get_config().items() if key != "name"}


def _equal(first: Any, second: Any) -> bool:
    try:
        return bool(first == second)
    except ValueError:  # arrays in it
        return False


def _same_inputs(node: Any, args: Any, kwargs: Any) -> bool:
    """Whether a call has float32 tensors of the same shapes as the earlier one, without masks, and equal arguments."""
    old = tf.nest.flatten((node.call_args, node.call_kwargs))
    new = tf.nest.flatten((args, kwargs))
    if len(old) != len(new) or not all(map(_plain, tf.nest.flatten(node.outputs))):
        return False
    return all(
        _plain(a) and _plain(b) and a.shape == b.shape if keras.backend.is_keras_tensor(a) else a is b
        for a, b in zip(old, new, strict=True)
    )


def _plain(tensor: Any) -> bool:
    """A symbolic float32 tensor without a mask and without a value that Keras worked out."""
    return (
        keras.backend.is_keras_tensor(tensor)
        and tensor.dtype == tf.float32
        and getattr(tensor, "_keras_mask", None) is None
        and getattr(tensor, "_inferred_value", None) is None
    )
