"""Flags that hold several settings."""

import pytest

import keras_dbq
from examples.common import options

DEFAULTS = {"a": 1, "b": "soft", "c": 0.5, "d": None, "e": False}
KINDS = {"d": float}


def parse(text):
    return options.parse(text, DEFAULTS, "hparams", KINDS)


def test_values_replace_defaults_of_their_type():
    assert parse("") == DEFAULTS
    given = {"a": 2, "b": "hard", "c": 1e-3, "d": 3.0, "e": True}
    assert parse("a=2, b=hard,c=1e-3,d=3,e=True") == given
    assert parse("c=2")["c"] == 2.0 and isinstance(parse("c=2")["c"], float)
    assert parse("d=None")["d"] is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "--hparams: expected name=value, got 'a'"),
        ("f=1", "--hparams: expected one of a, b, c, d, e, got 'f'"),
        ("a=1.5", "--hparams: a: expected a whole number, got 1.5"),
        ("a=True", "--hparams: a: expected a whole number, got True"),
        ("a=None", "--hparams: a: expected a whole number, got None"),
        ("b=1", "--hparams: b: expected a name, got 1"),
        ("c=high", "--hparams: c: expected a number, got 'high'"),
        ("d=high", "--hparams: d: expected a number, got 'high'"),
        ("e=1", "--hparams: e: expected True or False, got 1"),
        ("e=true", "--hparams: e: expected True or False, got 'true'"),
    ],
)
def test_wrong_names_and_types(text, message):
    with pytest.raises(ValueError) as error:
        parse(text)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_the_names_of_a_scheme_are_its_arguments():
    chosen = options.scheme_options(
        keras_dbq.DBQScheme, "overrides={'x': {'bits': 8}, 'y*': {'branches': 1}}", ("branches",)
    )
    assert chosen["overrides"] == {"x": {"bits": 8}, "y*": {"branches": 1}} and "branches" not in chosen
    assert keras_dbq.DBQScheme(2, **chosen).weight_bits == keras_dbq.DBQScheme(2).weight_bits
    with pytest.raises(ValueError, match="--scheme: expected one of mode, symmetric, bits, .*, got 'modes'"):
        options.scheme_options(keras_dbq.FATScheme, "modes=scalar")
    with pytest.raises(ValueError, match="--scheme: temperature: expected a number, got 'high'"):
        options.scheme_options(keras_dbq.DBQScheme, "temperature=high")
