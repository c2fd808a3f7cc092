"""Checks of arguments: what passes comes back, what does not is named in one line."""

import re

import numpy as np
import pytest

from keras_dbq import _checks


def test_what_passes_comes_back():
    assert _checks.one_of("mode", "a", ("a", "b")) == "a"
    assert _checks.integer("bits", 8, 2, 8) == 8 and type(_checks.integer("bits", np.int64(2), 2, 8)) is int
    assert _checks.integer("bits", 3.0, 2, 8) == 3
    assert _checks.number("rate", 0, 0.0, 1.0) == 0.0 and type(_checks.number("rate", 1, 0.0, 1.0)) is float
    assert _checks.boolean("strict", False) is False


@pytest.mark.parametrize(
    "check, arguments, error, message",
    [
        (_checks.one_of, ("mode", "c", ("a", "b")), ValueError, "mode: expected one of 'a', 'b', got 'c'"),
        (_checks.integer, ("bits", 1, 2, 8), ValueError, "bits: expected an integer from 2 to 8, got 1"),
        (_checks.integer, ("bits", 9, 2, 8), ValueError, "bits: expected an integer from 2 to 8, got 9"),
        (_checks.integer, ("bits", 2.5, 2, 8), ValueError, "bits: expected an integer from 2 to 8, got 2.5"),
        (_checks.integer, ("bits", True, 0, 8), ValueError, "bits: expected an integer from 0 to 8, got True"),
        (_checks.integer, ("bits", "3", 2, 8), ValueError, "bits: expected an integer from 2 to 8, got '3'"),
        (_checks.number, ("rate", -0.1, 0.0, 1.0), ValueError, "rate: expected a number from 0.0 to 1.0, got -0.1"),
        (_checks.number, ("rate", 1.1, 0.0, 1.0), ValueError, "rate: expected a number from 0.0 to 1.0, got 1.1"),
        (_checks.number, ("rate", np.nan, 0.0, 1.0), ValueError, "rate: expected a number from 0.0 to 1.0, got nan"),
        (_checks.boolean, ("strict", 1), TypeError, "strict: expected True or False, got 1"),
        (_checks.boolean, ("strict", None), TypeError, "strict: expected True or False, got None"),
    ],
)  # fmt: skip
def test_what_does_not_pass_is_named(check, arguments, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        check(*arguments)
