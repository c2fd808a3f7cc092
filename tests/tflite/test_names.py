"""Names of tensors: unique, and back to their layer."""

from keras_dbq.tflite.names import UniqueNames, layer_of


def test_names_are_given_once():
    unique = UniqueNames()
    assert [unique.give(name) for name in ("pool", "pool", "add", "pool#2", "pool")] == [
        "pool", "pool#2", "add", "pool#2#2", "pool#3",
    ]  # fmt: skip


def test_the_layer_is_found_again():
    assert layer_of("pool#2") == layer_of("pool") == "pool"
