"""Flags that hold several settings."""

import pytest

from examples.common import options


def test_options():
    assert options.parse("a=1, b=hard,c=1e-3,d=None,e=True") == {"a": 1, "b": "hard", "c": 1e-3, "d": None, "e": True}
    assert options.parse("a=2", {"a": 1, "b": 3}) == {"a": 2, "b": 3}
    nested = options.parse("a={'x': {'bits': 8}, 'y*': {'branches': 1}},b=(1, 2)")
    assert nested == {"a": {"x": {"bits": 8}, "y*": {"branches": 1}}, "b": (1, 2)}
    with pytest.raises(ValueError, match="--hparams: expected name=value, got 'a'"):
        options.parse("a", flag="hparams")
    with pytest.raises(ValueError, match="--hparams: expected one of a, b, got 'c'"):
        options.parse("c=1", {"a": 1, "b": 2}, "hparams")
