"""The public interface is the committed one; nothing of version 0.1 is gone and no default of it has changed."""

import ast
import difflib
from pathlib import Path

import pytest

from tests.api.interface import interface

FOLDER = Path(__file__).parent
# Lines of interface_0.1.txt that today's interface breaks on purpose, each with its reason.
_OWN_STEP = "None reads the optimizer's step: 0 in a first fit as before, and the right one after a resume"
_BY_WHAT_TRAINS = "None is the old value where the model has trained thresholds, and what trains everything where not"
_DISTILL = (
    "distill(q_model, float_model, data, *, train='thresholds', loss='rmse', hidden_weight=0.0, epochs=6, "
    "cycle_epochs=None, learning_rate=0.001, batch_size=32, callbacks=(), verbose=1)"
)
BROKEN_ON_PURPOSE: dict[str, str] = {
    "keras_dbq.callbacks.CosineAnnealing(rate, steps, first_step=0)": _OWN_STEP,
    "keras_dbq.callbacks.TemperatureSchedule"
    "(schedule=None, *, start=4.0, end=200.0, steps=None, first_step=0)": _OWN_STEP,
    f"keras_dbq.{_DISTILL}": _BY_WHAT_TRAINS,
    f"keras_dbq.distillation.{_DISTILL}": _BY_WHAT_TRAINS,
}


@pytest.fixture(scope="module")
def now():
    return interface()


def test_the_interface_is_the_committed_one(now):
    committed = (FOLDER / "interface.txt").read_text().splitlines()
    changes = [line for line in difflib.unified_diff(committed, now, "committed", "now", n=0, lineterm="")]
    assert not changes, "\n".join([
        "the public interface has changed:", *changes,
        "where that is meant: python tests/api/interface.py > tests/api/interface.txt, and a line in CHANGELOG.md",
    ])  # fmt: skip


def test_nothing_of_version_0_1_is_gone(now):
    today = dict(split(line) for line in now)
    old = [line for line in (FOLDER / "interface_0.1.txt").read_text().splitlines() if line not in BROKEN_ON_PURPOSE]
    gone = [f"{line}: {what}" for line in old if (what := broken(*split(line), today))]
    assert not gone, "\n".join(["calls that worked with version 0.1 do not any more:", *gone])


def split(line: str) -> tuple[str, str | None]:
    """Name and signature; None for what is no call."""
    name, bracket, rest = line.partition("(")
    return name, bracket + rest if bracket else None


def broken(name: str, signature: str | None, today: dict[str, str | None]) -> str:
    """What a call of version 0.1 meets today; empty when it works and means the same."""
    if name not in today:
        return "no such name"
    if signature is None or today[name] == signature:
        return ""
    if today[name] is None:
        return "no call any more"
    return _broken_call(arguments(signature), arguments(str(today[name])))


def _broken_call(old: ast.arguments, new: ast.arguments) -> str:
    before, after = _defaults(old), _defaults(new)
    places, now_places = [[a.arg for a in args.args] for args in (old, new)]
    if now_places[: len(places)] != places:
        return f"expected the positional arguments {places} first, got {now_places}"
    for name, default in before.items():
        if name not in after:
            return f"argument {name} is gone"
        if after[name] != default and default is not None:
            return f"default of {name}: expected {default}, got {after[name]}"
    added = [name for name in after if name not in before and after[name] is None]
    return f"new arguments without a default: {added}" if added else ""


def arguments(signature: str) -> ast.arguments:
    """The parsed parameters of `(a, b=1, *, c)`."""
    return ast.parse(f"def f{signature}: pass").body[0].args


def _defaults(args: ast.arguments) -> dict[str, str | None]:
    """{argument: text of its default, or None}."""
    positional = [None] * (len(args.args) - len(args.defaults)) + list(args.defaults)
    pairs = [*zip(args.args, positional, strict=True), *zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    return {arg.arg: None if default is None else ast.unparse(default) for arg, default in pairs}


@pytest.mark.parametrize(
    "old, new, what",
    [
        ("m.f(a, b=1)", "m.f(a, b=1, c=2)", ""),
        ("m.f(a, b=1)", "m.f(a, b=1, *, c=2)", ""),
        ("m.f(a, *, b=1)", "m.f(a, b=1)", ""),
        ("m.f(a)", "m.f(a=3)", ""),
        ("m.f", "m.f()", ""),
        ("m.f(a, b=1)", "m.g(a, b=1)", "no such name"),
        ("m.f(a, b=1)", "m.f", "no call any more"),
        ("m.f(a, b=1)", "m.f(a)", "positional arguments"),
        ("m.f(a, b=1)", "m.f(b=1, a=2)", "positional arguments"),
        ("m.f(a, b=1)", "m.f(a, *, b=1)", "positional arguments"),
        ("m.f(a, *, b=1)", "m.f(a)", "argument b is gone"),
        ("m.f(a, b=1)", "m.f(a, b=2)", "default of b: expected 1, got 2"),
        ("m.f(a, b=1)", "m.f(a, b)", "default of b: expected 1, got None"),
        ("m.f(a)", "m.f(a, b)", "new arguments without a default"),
        ("m.f(a)", "m.f(a, *, b)", "new arguments without a default"),
    ],
)
def test_what_counts_as_broken(old, new, what):
    found = broken(*split(old), dict([split(new)]))
    assert found.startswith(what) or what in found
    assert bool(found) == bool(what)
