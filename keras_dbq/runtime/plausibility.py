"""What `verify` looks at beside equal codes: clipped inputs, a network that makes differences grow, the float model."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_dbq._checks import share_outside
from keras_dbq.reference import Engine
from keras_dbq.runtime.verification_report import NUDGED, VerificationReport


def listed(outputs: Any) -> list[np.ndarray]:
    """The arrays of a run, whatever form it gives them."""
    if isinstance(outputs, dict):
        return list(outputs.values())
    return outputs if isinstance(outputs, list) else [outputs]


def saturated(engine: Engine, inputs: list[np.ndarray]) -> dict[str, float]:
    """{input: share of its numbers that are more than a step outside of its range}."""
    found = {}
    for name, tensor, x in zip(engine.input_names, engine.inputs, inputs, strict=True):
        if tensor.quantization is not None:
            low, high = (float((code - tensor.zero_point) * tensor.scale) for code in (-128, 127))
            found[name] = share_outside(x, low, high)
    return found


def nudged_equal(engine: Engine, inputs: list[np.ndarray]) -> float:
    """Share of the examples whose class the file keeps when a few codes of its inputs move by one step."""
    rng = np.random.default_rng(0)
    moved = [_nudged(x, tensor, rng) for x, tensor in zip(inputs, engine.inputs, strict=True)]
    first, second = (listed(engine.run(x))[0] for x in (inputs, moved))
    return _same_class(first, second)


def _same_class(left: np.ndarray, right: np.ndarray) -> float:
    """Share of the examples of one class (at every place of a map)."""
    return float(np.mean([np.array_equal(a.argmax(-1), b.argmax(-1)) for a, b in zip(left, right, strict=True)]))


def _nudged(x: np.ndarray, tensor: Any, rng: np.random.Generator) -> np.ndarray:
    steps = rng.choice([-1, 0, 1], x.shape, p=[NUDGED / 2, 1 - NUDGED, NUDGED / 2])
    return (x + steps * (0 if tensor.quantization is None else tensor.scale)).astype(np.float32)


def compare_float(report: VerificationReport, engine: Engine, float_model: Any, inputs: list[np.ndarray]) -> None:
    """The float network's answers beside the file's."""
    wanted = [np.asarray(y) for y in listed(_ordered(float_model.predict(list(inputs), verbose=0)))]
    got = listed(engine.run(inputs))
    report.shapes += [
        f"output {name!r} is {list(w.shape[1:])} in the float model and {list(g.shape[1:])} in the file"
        for name, w, g in zip(engine.output_names, wanted, got, strict=False)
        if w.shape != g.shape
    ]
    if len(wanted) != len(got):
        report.shapes.append(f"the float model has {len(wanted)} outputs, the file {len(got)}")
    if not report.shapes:
        report.float_top1, spread = _same_class(wanted[0], got[0]), np.linalg.norm(wanted[0] - wanted[0].mean(0))
        report.float_error = float(np.linalg.norm(got[0] - wanted[0]) / max(spread, np.finfo(np.float32).tiny))


def _ordered(outputs: Any) -> Any:
    """A dict of outputs in the order of model.outputs."""
    return {name: outputs[name] for name in sorted(outputs)} if isinstance(outputs, dict) else outputs
