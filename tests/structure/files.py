"""Files of one operator with shapes that fit, for tests that make one thing wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from keras_dbq.runtime.library import look
from keras_dbq.structure import check_file
from keras_dbq.tflite import flatbuffer as fb
from tests.conftest import REPOSITORY
from tests.reference.tflite_builder import Builder
from tests.reference.tflite_builder import options as options

CORPUS = REPOSITORY / "tests" / "fuzz" / "corpus"
Edit = Callable[[Any, Any], None]  # (ModelT, its first subgraph)


def ints(*values: Any) -> np.ndarray:
    return np.array(values, np.int32)


def weights(*shape: int) -> np.ndarray:
    return np.ones(shape, np.int8)


def one_op(name: str, inputs: list[Any], outputs: list[Any], chosen: Any = None) -> bytes:
    """Inputs and outputs: an int8 activation by its shape, a constant by its values, None for one that is left out."""
    b = Builder()
    made, ends = [], []
    for value in inputs:
        if value is None:
            made.append(-1)
        elif isinstance(value, np.ndarray):
            made.append(b.constant(value, 0.1 if value.dtype == np.int8 else None))
        else:
            made.append(b.tensor(value, np.int8, 0.5, 3))
            ends.append(made[-1])
    results = [b.tensor(shape, np.int8, 0.5, 3) for shape in outputs]
    b.op(name, made, results, chosen, 1)
    return bytes(b.finish(ends, results))


def corpus(name: str) -> bytes:
    return (CORPUS / f"{name}.tflite").read_bytes()


def edited(data: bytes, edit: Edit) -> bytes:
    """The file after edit(model, first subgraph), written as a sound flatbuffer."""
    model = fb.load_model(data)
    graph = model.subgraphs[0]
    for holder in (graph, *graph.tensors, *graph.operators):  # the reader's arrays are views of the file
        for name, value in vars(holder).items():
            if isinstance(value, np.ndarray):
                setattr(holder, name, value.copy())
    edit(model, graph)
    return fb.save_model(model)


def refused(data: bytes, message: str) -> None:
    """check_file raises a one-line ValueError that says `message`; the shared object does not vouch for the file."""
    with pytest.raises(ValueError, match=message) as error:
        check_file(data)
    assert not look(data).whole, "the shared object vouches for a file that is not whole"
    assert "\n" not in str(error.value)
