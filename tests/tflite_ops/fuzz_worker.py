"""Loads and runs damaged packed files, one after the other; started by test_fuzz.py, because a crash ends the process.

    python fuzz_worker.py <delegate.so, or "stock"> <mode> <first seed> <count>

Prints "seed <n>" before each file, at the end "ran <n> refused <n> ours <n>" (ours: refused by the packed operators).
Each file follows from its seed. "stock" only parses the file, with the delegate nowhere near it.

mode "tensors" damages contents, lengths, types, shapes and quantization of tensors and the operator's tensor list, and
writes a well-formed flatbuffer. mode "bytes" changes bytes anywhere in the file, flatbuffer structure included.

Left out, because TFLite itself crashes on them before a packed operator is asked:
* graph inputs of more than 2^22 elements: TFLite reserves their memory unasked and does not check that it got any;
* mode "bytes": files that crash the stock parser too. test_fuzz.py tries each crash again with "stock", and says how
  many it left out (about one file in 20,000).
"""

from __future__ import annotations

import math
import os
import sys

sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..")))

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, load_delegate

from tests.tflite_ops.packed_models import Case, packed_model, serialize

CASES = [
    Case("conv2d", (1, 5, 4, 3), 6, branches=2),
    Case("conv2d", (2, 6, 6, 2), 4, stride=(2, 2), padding="valid", activation="relu6"),
    Case("depthwise_conv2d", (1, 5, 5, 4), 8, multiplier=2, dilation=(2, 1), branches=2),
    Case("fully_connected", (2, 3, 7), 5, keep_num_dims=True, branches=2),
    Case("fully_connected", (3, 7), 5),
]
INTEGERS = [0, 1, -1, 2, 3, 127, -128, 128, 255, 256, 65535, 66312, 2**24, 2**31 - 1, -(2**31)]
DIMENSIONS = [-(2**31), -1, 0, 1, 2, 3, 4, 5, 7, 16, 2**31 - 1]


def _damage_content(model: schema.ModelT, rng: np.random.Generator) -> None:
    """One value of one constant: a random byte, or a whole int32 / float32 replaced."""
    buffer = model.buffers[rng.integers(1, len(model.buffers))]
    data = _content(buffer)
    if data.size >= 4 and data.size % 4 == 0 and rng.random() < 0.7:
        words = data.view(np.int32)
        words[rng.integers(words.size)] = rng.choice(INTEGERS)
    elif data.size:
        data[rng.integers(data.size)] = rng.integers(256)
    buffer.data = data


def _damage_length(model: schema.ModelT, rng: np.random.Generator) -> None:
    """Truncates, extends or empties a constant, sometimes with its shape changed to agree."""
    graph = model.subgraphs[0]
    tensor = graph.tensors[rng.integers(2, len(graph.tensors))]
    buffer = model.buffers[tensor.buffer]
    data = _content(buffer)
    item = 1 if tensor.type == schema.TensorType.UINT8 else 4
    size = int(rng.integers(0, 2 * data.size + 1)) // item * item
    buffer.data = np.resize(data, size) if data.size else data
    if rng.random() < 0.8:
        tensor.shape = [size // item]
    if rng.random() < 0.1:
        tensor.buffer = 0


def _damage_shape(model: schema.ModelT, rng: np.random.Generator) -> None:
    tensor = _any_tensor(model, rng)
    shape = [int(n) for n in tensor.shape]
    action = rng.integers(3)
    if action == 0 and shape:
        shape[rng.integers(len(shape))] = int(rng.choice(DIMENSIONS))
    elif action == 1 and shape:
        shape.pop()
    else:
        shape.append(int(rng.choice(DIMENSIONS)))
    tensor.shape = shape


def _damage_type(model: schema.ModelT, rng: np.random.Generator) -> None:
    _any_tensor(model, rng).type = int(rng.integers(0, 21))


def _damage_quantization(model: schema.ModelT, rng: np.random.Generator) -> None:
    tensor = model.subgraphs[0].tensors[rng.integers(2)]
    if tensor.quantization is None or rng.random() < 0.3:
        tensor.quantization = None
        return
    scale = rng.choice([0.0, -1.0, np.nan, np.inf, 1e-45, 1.0]) * np.ones(rng.integers(1, 3))
    tensor.quantization.scale = scale.astype(np.float32)
    tensor.quantization.zeroPoint = rng.choice([-(2**62), -129, 0, 5, 128, 2**62], scale.size).astype(np.int64)


def _damage_operator(model: schema.ModelT, rng: np.random.Generator) -> None:
    """Tensor lists with tensors missing, doubled, swapped or out of range."""
    operator = model.subgraphs[0].operators[0]
    inputs = [int(i) for i in operator.inputs]
    action = rng.integers(5)
    if action == 0:
        inputs.pop(rng.integers(len(inputs)))
    elif action == 1:
        inputs[rng.integers(len(inputs))] = int(rng.choice([-1, 0, 1, 2, 3, 4, 5, 6, 7, 1000, -1000]))
    elif action == 2:
        inputs.append(int(rng.integers(7)))
    elif action == 3:
        inputs = [int(i) for i in rng.permutation(inputs)]
    else:
        operator.outputs = [int(i) for i in rng.integers(0, 7, rng.integers(0, 3))]
    operator.inputs = inputs


def _content(buffer: schema.BufferT) -> np.ndarray:
    """Copy of a buffer's bytes; an emptied buffer has none."""
    return np.array([] if buffer.data is None else buffer.data, np.uint8)


def _any_tensor(model: schema.ModelT, rng: np.random.Generator) -> schema.TensorT:
    tensors = model.subgraphs[0].tensors
    return tensors[rng.integers(len(tensors))]


MAX_ELEMENTS = 2**22
LEFT_OUT = "left out"

DAMAGES = [
    _damage_content,
    _damage_content,
    _damage_content,
    _damage_length,
    _damage_shape,
    _damage_type,
    _damage_quantization,
    _damage_operator,
]


def damaged_tensors(content: bytes, rng: np.random.Generator) -> bytes:
    """The file with one to three damages through the object interface."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for _ in range(rng.integers(1, 4)):
        DAMAGES[rng.integers(len(DAMAGES))](model, rng)
    return serialize(model)


def damaged_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """The file with one to eight bytes changed anywhere behind the identifier, or cut short."""
    data = np.frombuffer(content, np.uint8).copy()
    for _ in range(rng.integers(1, 9)):
        data[rng.integers(8, data.size)] = rng.integers(256)
    if rng.random() < 0.1:
        data = data[: rng.integers(8, data.size)]
    return data.tobytes()


def _elements(interpreter: Interpreter) -> int:
    """Of the largest graph input; a negative dimension counts as none, TFLite refuses it."""
    return max((math.prod(map(int, d["shape"])) for d in interpreter.get_input_details()), default=0)


def run(content: bytes, library: str) -> str:
    """ "" when the file loads and runs, else the error that refused it."""
    try:
        if library == "stock":
            Interpreter(model_content=content)
            return "parsed only"
        interpreter = Interpreter(model_content=content, experimental_delegates=[load_delegate(library)])
        if _elements(interpreter) > MAX_ELEMENTS:
            return LEFT_OUT
        interpreter.allocate_tensors()
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        return str(error) or "unnamed"
    return ""


def main(library: str, mode: str, first: int, count: int) -> None:
    originals = [packed_model(case) for case in CASES]
    for case, content in zip(CASES, originals, strict=True):
        assert library == "stock" or not run(content, library), f"{case} does not run undamaged"
    damage = {"tensors": damaged_tensors, "bytes": damaged_bytes}[mode]
    results = []
    for seed in range(first, first + count):
        print("seed", seed, flush=True)
        rng = np.random.default_rng(seed)
        results.append(run(damage(originals[seed % len(originals)], rng), library))
        if os.environ.get("FUZZ_VERBOSE"):
            print(results[-1])
    refused = sum(result not in ("", LEFT_OUT) for result in results)
    ours = sum("Dbq" in result for result in results)
    print("ran", results.count(""), "refused", refused, "left out", results.count(LEFT_OUT), "ours", ours, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
