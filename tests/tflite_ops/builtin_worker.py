"""Runs examples of every builtin operator in the stock interpreter and with the delegate; prints what differs as JSON.

    python builtin_worker.py <delegate.so> litert|tensorflow <examples of each operator>

One process a runtime: the two cannot be loaded together.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from typing import Any

sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..")))
warnings.simplefilter("ignore")

import numpy as np

from tests.tflite_ops.builtin_models import EXAMPLES
from tests.tflite_ops.random_model import Example, scale_bits

MODULES = {"litert": "ai_edge_litert.interpreter", "tensorflow": "tensorflow.lite.python.interpreter"}
BREAKABLE = ("convolution", "grouped", "depthwise", "fully_connected")
ISAS = ("scalar", "avx2", "avxvnni", "avx512vnni", "amx", "neon", "dotprod", "i8mm")


def run(interpreter: Any, example: Example) -> np.ndarray:
    """The output's codes; of float32 its bits."""
    interpreter.allocate_tensors()
    for detail, x in zip(interpreter.get_input_details(), example.inputs, strict=True):
        interpreter.set_tensor(detail["index"], x)
    interpreter.invoke()
    y = np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return y.view(np.int32) if y.dtype == np.float32 else y.astype(np.int32)


def is_broken(runtime: Any, example: Example, codes: np.ndarray) -> bool:
    """Whether the stock result is nothing to compare with: further from its own plain kernels than rounding goes.

    TensorFlow 2.21 on a processor with AMX computes single convolutions so, and not twice the same.
    """
    reference = runtime.OpResolverType.BUILTIN_REF
    plain = run(runtime.Interpreter(model_content=example.content, experimental_op_resolver_type=reference), example)
    return bool(np.abs(plain - codes).max(initial=0) > 1)


def delegates(runtime: Any, library: str) -> dict[str, Any]:
    """One for every instruction set that this processor has."""
    found = {}
    for isa in ISAS:
        try:
            found[isa] = runtime.load_delegate(library, {"isa": isa, "builtins": "all"})
        except ValueError:
            continue
    return found


def is_taken(runtime: Any, example: Example, delegate: Any) -> bool:
    """Without XNNPACK, so that a delegate in the list of operators is ours."""
    plain = runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    arguments = {"model_content": example.content, "experimental_delegates": [delegate]}
    interpreter = runtime.Interpreter(experimental_op_resolver_type=plain, **arguments)
    interpreter.allocate_tensors()
    return "DELEGATE" in [operator["op_name"] for operator in interpreter._get_ops_details()]


def compare(runtime: Any, library: str, operator: str, count: int) -> dict[str, Any]:
    """Counts runs that differ, those of plain scales that the delegate did not take, and examples without a result."""
    result: dict[str, Any] = {"plain": 0, "differing": [], "left": 0, "broken": 0}
    for seed in range(count):
        example = EXAMPLES[operator](seed)
        expected = run(runtime.Interpreter(model_content=example.content), example)
        if operator in BREAKABLE and is_broken(runtime, example, expected):
            result["broken"] += 1
            continue
        for isa, delegate in delegates(runtime, library).items():
            ours = runtime.Interpreter(model_content=example.content, experimental_delegates=[delegate])
            if not np.array_equal(run(ours, example), expected):
                result["differing"].append([isa, seed])
            if scale_bits(seed) is None:
                result["left"] += not is_taken(runtime, example, delegate)
                result["plain"] += 1
    return result


def main(library: str, runtime_name: str, count: int) -> None:
    """A result for every operator."""
    runtime = importlib.import_module(MODULES[runtime_name])
    print(json.dumps({operator: compare(runtime, library, operator, count) for operator in EXAMPLES}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
