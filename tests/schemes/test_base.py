"""What all schemes share: choices per layer, layers without an integer form."""

import pytest

import keras_dbq
from keras_dbq.compat import keras, tf
from keras_dbq.wrapping import wrappers
from tests import nets

L = keras.layers


def test_overrides_by_name_pattern_and_type():
    overrides = {
        L.Conv2D: {"branches": 1},
        "a?": {"branches": 1, "thresholds": "trained"},
        "a1": {"branches": 2},
        "b1": {"skip": True},
        "head": {"branches": 2},
    }
    q_model = nets.quantize(nets.resnet(), overrides=overrides)
    found = {
        wrappers.inner(layer).name: (getattr(w.quantizer, "branches", 0), getattr(w.quantizer, "bits", 0))
        for layer in q_model.layers
        for w in wrappers.quantized_weights(layer)
    }
    # a name wins over a pattern, a pattern over a type; "branches" of the type still says what a0 is
    assert found == {"stem": (1, 0), "a0": (1, 0), "b0": (1, 0), "a1": (2, 0), "head": (2, 0)}
    notes = dict(zip(*[keras_dbq.explain(q_model, None).column(c) for c in ("layer", "note")], strict=True))
    assert "skipped by choice" in notes["b1"]


class Doubler(L.Layer):
    """A layer without an integer form."""

    def call(self, inputs):
        return tf.math.cumsum(inputs, axis=1)


def _with_unknown_layer():
    inputs = keras.Input(nets.SHAPE)
    x = Doubler(name="doubler")(L.Conv2D(4, 3, name="a")(inputs))
    return keras.Model(inputs, L.Flatten()(L.Conv2D(4, 3, name="b")(L.Conv2D(4, 3, name="m")(x))))


def test_unsupported_layer_is_an_error_or_a_skip():
    with pytest.raises(ValueError, match="layer 'doubler' of type Doubler has no integer form"):
        nets.quantize(_with_unknown_layer())
    q_model = nets.quantize(_with_unknown_layer(), on_unsupported="skip")
    table = keras_dbq.explain(q_model, None)
    notes = dict(zip(table.column("layer"), table.column("note"), strict=True))
    assert "stays float" in notes["doubler"]
