"""The list of what has no counterpart: one line, each layer once, foreign errors with their first line."""

import pytest

from keras_dbq.keras3.missing import Missing, NoCounterpart, first_line, kind
from tests.keras3.networks import K, L, keras_3


def test_each_layer_once_in_one_line():
    found, layer = Missing(), L.Dense(2, name="a")
    found.check(keras_3.Sequential(name="m"))
    found.add(layer, NoCounterpart("why; what to do"))
    found.add(layer, NoCounterpart("again"))
    found.add(L.Flatten(name="b"), TypeError("\n  of tf_keras\nand more"))
    with pytest.raises(ValueError) as caught:
        found.check(keras_3.Sequential(name="m"))
    assert str(caught.value) == (
        "from_keras3: model 'm' has parts without a counterpart in tf_keras: layer 'a' of type Dense: why; what to do; "
        "layer 'b' of type Flatten: tf_keras refuses it (TypeError: of tf_keras); replace it"
    )
    assert [(one.layer, one.type, one.advice, one.fatal) for one in caught.value.obstacles] == [
        ("a", "Dense", "what to do", True), ("b", "Flatten", "replace it", True),
    ]  # fmt: skip
    assert caught.value.obstacles[0].reason == "from_keras3 cannot convert it: why"


def test_names():
    operation = K.relu(keras_3.Input((3,)))._keras_history.operation
    assert kind(operation) == f"operation {operation.name!r} of type Relu"
    assert first_line(KeyError()) == "KeyError"
    assert first_line(ValueError("Exception encountered when calling layer 'd'.\n\n  no kernel\nand")) == "no kernel"
