"""`layer.trainable = False` on a quantized layer means what it means in Keras.

tfmot's wrapper lists its kernel and the quantizers' variables apart from the layer inside, whatever that layer's
`trainable` says (tfmot issues 527, 881, 1067). Here these properties of the wrapper follow Keras' rule: a layer that
does not train has no trainable weights. They act on wrappers with our QuantizeConfigs; others are as before.

A frozen layer computes in training what the file computes: its weights do not take the smooth forward, and its ranges
do not follow the data (choice: as a frozen BatchNormalization runs as at inference).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_dbq.compat import OutputOnlyConfig, QuantizeWrapper, QuantizeWrapperV2, keras, tf, with_autograph

_FROZEN = "frozen"  # in a wrapper's config, and on a loaded wrapper until its first call
_TRAINED = "_trained_when_built"
INNER_FROZEN = "_inner_frozen"  # on a wrapper whose layer inside was frozen alone


def follow_keras(config_class: type) -> None:
    """Makes the wrappers with a QuantizeConfig of this class keep Keras' rule."""

    def ours(wrapper: Any) -> bool:
        config = wrapper.quantize_config
        return isinstance(config.quantize_config if isinstance(config, OutputOnlyConfig) else config, config_class)

    for wrapper_class in (QuantizeWrapper, QuantizeWrapperV2):
        _keras_rule(wrapper_class, ours)
    _saved_as_built(ours)
    _call_as_written(QuantizeWrapper, ours)


def _call_as_written(wrapper_class: Any, ours: Callable[[Any], bool]) -> None:
    """Leaves AutoGraph out: our calls have no Python `if` on tensors, and translating them takes most of the time in
    which a model is quantized or loaded.
    """
    original = wrapper_class.call

    @tf.autograph.experimental.do_not_convert
    def call(self: Any, inputs: Any, training: Any = None, **kwargs: Any) -> Any:
        function = original if ours(self) else with_autograph(original)
        outputs = function(self, inputs, training=training, **kwargs)
        if self.__dict__.pop(_FROZEN, False):
            self.trainable = False
        return outputs

    wrapper_class.call = call


def _saved_as_built(ours: Callable[[Any], bool]) -> None:
    """Makes a layer that was frozen after it had been built load as it was saved.

    The order of a wrapper's weights, which is the order in files, depends on what trained when it was built. So the
    config of such a layer says that it trains, and beside that that it is frozen; a loaded one is frozen when it has
    been called, behind what `freeze` did.
    """
    build, get_config, from_config = QuantizeWrapper.build, QuantizeWrapper.get_config, QuantizeWrapper.from_config

    def build_and_note(self: Any, input_shape: Any) -> None:
        build(self, input_shape)
        object.__setattr__(self, _TRAINED, self._trainable)  # past Keras, which would track it

    def config_as_built(self: Any) -> dict[str, Any]:
        config = get_config(self)
        if ours(self) and not self._trainable and getattr(self, _TRAINED, False):
            config |= {"trainable": True, _FROZEN: True}
            config["layer"]["config"]["trainable"] = not getattr(self, INNER_FROZEN, False)
        return config

    def from_config_as_built(cls: Any, config: dict[str, Any]) -> Any:
        config = dict(config)
        frozen = config.pop(_FROZEN, False)
        wrapper = from_config.__func__(cls, config)
        if frozen:
            wrapper.__dict__[_FROZEN] = True
            wrapper.__dict__[INNER_FROZEN] = not wrapper.layer.trainable
        return wrapper

    QuantizeWrapper.build, QuantizeWrapper.get_config = build_and_note, config_as_built
    QuantizeWrapper.from_config = classmethod(from_config_as_built)


def _keras_rule(wrapper_class: Any, ours: Callable[[Any], bool]) -> None:
    """Replaces `trainable`, `trainable_weights` and `non_trainable_weights` of a wrapper class."""
    trainable, other, flag = (
        wrapper_class.trainable_weights,
        wrapper_class.non_trainable_weights,
        wrapper_class.trainable,
    )

    def get_trainable(self: Any) -> bool:
        # Keras' own attribute; the layer inside may be frozen alone, as `freeze(batch_norm=True)` does.
        return self._trainable if ours(self) else flag.fget(self)

    def set_trainable(self: Any, value: bool) -> None:
        if ours(self):
            keras.layers.Layer.trainable.fset(self, value)  # of the layer inside, too
        else:
            flag.fset(self, value)

    def trainable_weights(self: Any) -> list[Any]:
        return trainable.fget(self) if self.trainable or not ours(self) else []

    def non_trainable_weights(self: Any) -> list[Any]:
        if self.trainable or not ours(self):
            return other.fget(self)
        # In the order of version 0.1, where the wrapper's own stood first: it is the order in saved files.
        return self._dedup_weights(self._trainable_weights + self.layer.weights + self._non_trainable_weights)

    wrapper_class.trainable = property(get_trainable, set_trainable)
    wrapper_class.trainable_weights = property(trainable_weights)
    wrapper_class.non_trainable_weights = property(non_trainable_weights)
