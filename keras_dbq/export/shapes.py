"""Shapes of tensors whose first size is not the batch's.

The converter writes 1 for every size that it does not know, also where examples were joined with steps of time; those
are 4 for a batch of 1 with 4 steps. Runtimes compute shapes anew; who reads the file alone sees what stands there.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from keras_dbq.compat import tf
from keras_dbq.tflite import flatbuffer as fb


def settle(model: Any, data: bytes) -> None:
    """Writes the shapes that the stock runtime computes for the file's batch, where the converter's contradict.

    Args:
      model: the ModelT of `data`, changed in place.
    """
    if not any(_changes_size(model, operator) for operator in model.subgraphs[0].operators):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        resolver = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = tf.lite.Interpreter(model_content=data, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    shapes = {detail["index"]: detail["shape"] for detail in interpreter.get_tensor_details()}
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        if index in shapes and fb.shape_of(tensor) != tuple(shapes[index]):
            # A signature would say that the size is open, which by the converter's convention stands as 1.
            tensor.shape, tensor.shapeSignature = shapes[index], None


def _changes_size(model: Any, operator: Any) -> bool:
    """Whether a RESHAPE has another number of values behind it."""
    if fb.op_name(model, operator) != "RESHAPE":
        return False
    tensors = model.subgraphs[0].tensors
    before, after = (fb.shape_of(tensors[i]) for i in (operator.inputs[0], operator.outputs[0]))
    return math.prod(before) != math.prod(after)
